//! Numbers in the cells of a table.

use maud::{Markup, html};

use crate::page::timeline::format::thousands;

/// A number in a table; zero is grey.
pub(super) fn number(number: u64) -> Markup {
    let class = if number == 0 { "n zero" } else { "n" };
    html! { td class=(class) { (thousands(number)) } }
}

/// A number that is bad unless it is zero.
pub(super) fn bad_number(number: u64) -> Markup {
    let class = if number == 0 { "n zero" } else { "n bad" };
    html! { td class=(class) { (thousands(number)) } }
}
