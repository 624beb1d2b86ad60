//! The frame of all pages.

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

/// What is different from page to page.
pub(super) struct PageDocument<'a> {
    pub(super) title: &'a str,
    /// The relative path of the router.
    pub(super) base: &'a str,
    /// Where newer sections come from, if any do.
    pub(super) live: Option<&'a str>,
    /// The link to the page itself.
    pub(super) reload: &'a str,
    pub(super) head: Markup,
    pub(super) main: Markup,
    pub(super) foot: Markup,
}

pub(super) fn document(page: &PageDocument<'_>) -> Html<String> {
    let PageDocument {
        title,
        base,
        live,
        reload,
        head,
        main,
        foot,
    } = page;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · tower-dspy" }
                link rel="stylesheet" href=(format!("{base}page.css"));
                script src=(format!("{base}page.js")) defer {}
            }
            body data-live=[live] {
                a.skip href="#main" { "Skip to the content" }
                header {
                    div.head { (head) }
                    p #live { a href=(reload) { "Refresh" } }
                }
                main #main tabindex="-1" { (main) }
                footer { p { (foot) } }
            }
        }
    };
    Html(markup.into_string())
}
