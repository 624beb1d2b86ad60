//! The page of the calls of one cell of the matrix.

use axum::response::Html;
use maud::{Markup, html};

use super::document::{PageDocument, document};
use crate::{
    call::record::timeline::CallTimeline,
    page::{
        columns::Column,
        readings::LiveReading,
        timeline::format::{count, thousands},
        units::{capitalised, shown, time},
    },
};

/// The page of the calls of `program` in `column`, of which there are `total`.
pub(in crate::page) fn samples(
    (program, column): (&str, Column),
    home: &str,
    total: u64,
    timelines: &[CallTimeline],
    has_host: bool,
) -> Html<String> {
    let program = shown(program);
    let kept = timelines.len() as u64;
    document(&PageDocument {
        title: &format!("{program}: {}", column.head()),
        base: "",
        live: None,
        reload: "",
        head: html! {
            p.back { a href=(home) { "All calls" } }
            h1 { "Calls of " span.name { (program) } }
            p.state { (capitalised(&column.words())) }
            p.figures {
                @if kept < total {
                    "The last " (thousands(kept)) " of " (count(total, "call")) "."
                } @else {
                    (count(kept, "call")) "."
                }
            }
        },
        main: html! {
            @if timelines.is_empty() {
                p.none { "There is none any more." }
            } @else {
                section aria-label="Calls" {
                    div.scroll role="group" aria-label="Calls" tabindex="0" {
                        (table(timelines, has_host))
                    }
                }
            }
        },
        foot: html! {},
    })
}

fn table(timelines: &[CallTimeline], has_host: bool) -> Markup {
    html! {
        table.calls {
            thead {
                tr {
                    th.n scope="col" { "Call" }
                    th scope="col" { "Ended" }
                    th.n scope="col" { "Answered after" }
                    th.n scope="col" { "Deadline" }
                    th.n scope="col" { "Work after the answer" }
                    th.n scope="col" { "Attempts" }
                    th.n scope="col" { "LM calls" }
                    th.n scope="col" { "Tokens" }
                    th.n scope="col" { "Wasted" }
                }
            }
            tbody {
                @for timeline in timelines {
                    @if let Some(call) = LiveReading::of(timeline, has_host) {
                        (row(timeline, &call))
                    }
                }
            }
        }
    }
}

fn row(timeline: &CallTimeline, call: &LiveReading) -> Markup {
    let unwanted = timeline.unwanted();
    html! {
        tr {
            th.n scope="row" { a href=(call.id) { (call.id) } }
            td {
                @match &timeline.answered {
                    Some(answer) => (answer.status),
                    None => (call.stage),
                }
            }
            td.n {
                @match &timeline.answered {
                    Some(answer) => (time(answer.at)),
                    None => { (time(call.elapsed)) " so far" },
                }
            }
            td.n { @match call.deadline { Some(at) => (time(at)), None => span.zero { "none set" } } }
            td.n.bad[timeline.answered.is_some() && timeline.settled.is_none()].zero[unwanted.as_millis() == 0] {
                @if timeline.answered.is_some() { (time(unwanted)) }
                @if timeline.answered.is_some() && timeline.settled.is_none() { " so far" }
            }
            (super::cells::number(call.attempts))
            (super::cells::number(call.lm_calls))
            (super::cells::number(call.tokens))
            (super::cells::bad_number(timeline.wasted_tokens))
        }
    }
}
