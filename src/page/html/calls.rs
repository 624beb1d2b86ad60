//! The page of all calls.

use axum::response::Html;
use maud::html;

use super::{
    document::{PageDocument, document},
    links::PageLinks,
    live_calls::live_calls,
    lms::lms,
    matrix::matrix,
    section::{Part, element},
    workers::workers,
};
use crate::page::page_reading::PageReading;

/// The page of all calls.
pub(in crate::page) fn calls(reading: &PageReading, links: &PageLinks<'_>) -> Html<String> {
    let [state, figures, matrix, live, lms, workers] = calls_parts(reading, links);
    let base = links.base;
    let by = if links.by_time { "?by=time" } else { "" };
    let flat = if base.is_empty() { "" } else { "&flat=true" };
    let live_by = if links.by_time { "time" } else { "share" };
    document(&PageDocument {
        title: "Calls",
        base,
        live: Some(&format!("{base}live?by={live_by}{flat}")),
        reload: if links.by_time { "?by=time" } else { "?" },
        head: html! {
            h1 { "Calls" }
            (element(state, Some("polite")))
            (element(figures, None))
        },
        main: html! {
            (element(matrix, None))
            (element(live, None))
            (element(lms, None))
            (element(workers, None))
        },
        foot: html! {
            "The same as "
            a href=(format!("{base}page.txt{by}")) { "text" } " or "
            a href=(format!("{base}page.json")) { "JSON" } "."
        },
    })
}

/// The sections of the page of all calls.
pub(in crate::page) fn calls_parts(reading: &PageReading, links: &PageLinks<'_>) -> [Part; 6] {
    let headline = &reading.headline;
    let state = if headline.is_well { "well" } else { "wrong" };
    [
        ("state", html! { p.state.(state) { (headline.state) } }),
        ("figures", html! { p.figures { (headline.figures) } }),
        ("programs", matrix(reading, links)),
        ("calls", live_calls(reading, links)),
        ("lms", lms(reading)),
        ("workers", workers(reading)),
    ]
}
