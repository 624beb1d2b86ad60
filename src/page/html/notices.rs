//! The pages in place of what is not there or cannot be done.

use axum::response::Html;
use maud::{Markup, html};

use super::document::{PageDocument, document};
use crate::page::units::{capitalised, shown};

/// The page in place of that of a call that is not there.
pub(in crate::page) fn not_kept(id: &str, home: &str) -> Html<String> {
    let words = html! {
        "Call " (shown(id)) " is not under way, and not one of the last finished calls of its class."
    };
    notice("No such call", &words, "", (home, ""))
}

/// The answer to a form that cannot cancel its call, one path below the page of the call.
pub(in crate::page) fn not_cancelled(detail: &str, home: &str) -> Html<String> {
    let words = html! { (capitalised(detail)) "." };
    notice("Not cancelled", &words, "../", (home, home))
}

fn notice(title: &str, words: &Markup, base: &str, (home, reload): (&str, &str)) -> Html<String> {
    document(&PageDocument {
        title,
        base,
        live: None,
        reload,
        head: html! {
            p.back { a href=(home) { "All calls" } }
            h1 { (title) }
            p.figures { (words) }
        },
        main: html! {},
        foot: html! {},
    })
}
