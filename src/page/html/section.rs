//! A section of a page, which a live page replaces by a newer one.

use maud::{Markup, html};

/// A section of a page: the id of its element, and its content.
pub(in crate::page) type Part = (&'static str, Markup);

/// The element of a section. `live` is how a screen reader reads its changes out; the element itself
/// stays as it is.
pub(super) fn element((id, content): Part, live: Option<&str>) -> Markup {
    html! { div #(id) aria-live=[live] { (content) } }
}
