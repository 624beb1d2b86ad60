//! What the links and forms of a page need.

use crate::page::access::FormToken;

/// What the links and forms of a page need.
#[derive(Clone, Copy, Debug)]
pub(in crate::page) struct PageLinks<'a> {
    /// The relative path of the router.
    pub(in crate::page) base: &'a str,
    pub(in crate::page) by_time: bool,
    pub(in crate::page) form_token: Option<&'a FormToken>,
}
