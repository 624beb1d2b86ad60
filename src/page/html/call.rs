//! The page of one call.

use std::time::Duration;

use axum::response::Html;
use maud::{Markup, PreEscaped, html};

use super::{
    document::{PageDocument, document},
    live_calls::cancel_form,
    section::{Part, element},
};
use crate::{
    call::record::timeline::CallTimeline,
    page::{
        access::FormToken,
        columns::Column,
        stage::CallStage,
        timeline::{
            format::{length, offset},
            story::timeline_story,
            svg::timeline_svg,
        },
        units::{capitalised, shown},
    },
};

/// The time within which work that ends with its call does.
const AT_ONCE: Duration = Duration::from_micros(100);

/// The page of a call. It has a button if a `form_token` cancels the call.
pub(in crate::page) fn call(
    timeline: &CallTimeline,
    home: &str,
    form_token: Option<&FormToken>,
    has_host: bool,
) -> Html<String> {
    let id = timeline.id.map_or(0, |id| id.get());
    let [outcome, state, picture, cancel] = call_parts(timeline, form_token, has_host);
    let live = timeline.settled.is_none().then(|| format!("{id}/live"));
    document(&PageDocument {
        title: &format!("Call {id}"),
        base: "",
        live: live.as_deref(),
        reload: "?",
        head: html! {
            p.back { a href=(home) { "All calls" } }
            h1 { "Call " (id) " of " span.name { (shown(timeline.name())) } }
            (element(outcome, Some("polite")))
            (element(state, None))
            @if let Some(trace) = &timeline.trace_id {
                p.figures { "Trace " code.whole title="A click marks all of it" { (trace) } }
            }
            (element(cancel, None))
        },
        main: html! { (element(picture, None)) },
        foot: html! {
            "This call as "
            a href=(format!("{id}.txt")) { "text" } ", "
            a href=(format!("{id}.json")) { "JSON" } ", or a "
            a href=(format!("{id}.perfetto.json")) { "file for Perfetto" } "."
        },
    })
}

/// The sections of the page of a call.
pub(in crate::page) fn call_parts(
    timeline: &CallTimeline,
    form_token: Option<&FormToken>,
    has_host: bool,
) -> [Part; 4] {
    [
        ("call-outcome", outcome(timeline)),
        ("call-state", state(timeline, has_host)),
        ("timeline", picture(timeline)),
        ("cancel", cancel(timeline, form_token)),
    ]
}

/// How the call ended. A screen reader reads it out: it has no time that goes on.
fn outcome(timeline: &CallTimeline) -> Markup {
    let Some(answer) = &timeline.answered else {
        return html! {};
    };
    let class = match timeline.class().map(|class| Column::Outcome(class).class()) {
        Some("bad") => "state wrong",
        Some("neutral") | None => "state",
        Some(_) => "state well",
    };
    let ended = format!("{} after {}.", answer.status, length(answer.at));
    html! { p class=(class) { (capitalised(&ended)) } }
}

/// What the call does now; or how its work went on after it had ended.
fn state(timeline: &CallTimeline, has_host: bool) -> Markup {
    if timeline.answered.is_none() {
        let stage = CallStage::of(timeline, has_host).words();
        return html! { p.state { (capitalised(&stage)) } };
    }
    let unwanted = length(timeline.unwanted());
    let work = match timeline.settled {
        None => format!("Its work goes on, for {unwanted} so far."),
        Some(_) if timeline.unwanted() < AT_ONCE => "All its work had ended.".to_owned(),
        Some(_) => format!("Its work ended {unwanted} later."),
    };
    html! { p.figures { (work) } }
}

fn cancel(timeline: &CallTimeline, form_token: Option<&FormToken>) -> Markup {
    match (timeline.id, timeline.answered) {
        (Some(id), None) => {
            let stopping = timeline.stopped.map(|signal| signal.cause);
            cancel_form("", id, stopping, form_token, "call")
        }
        _ => html! {},
    }
}

/// A sentence, in one line.
fn shown_line(line: &str) -> String {
    let is_break = |c: char| c.is_control();
    line.chars()
        .map(|c| if is_break(c) { ' ' } else { c })
        .collect()
}

fn picture(timeline: &CallTimeline) -> Markup {
    let story = timeline_story(timeline);
    html! {
        section aria-labelledby="timeline-head" {
            h2 #timeline-head { "Timeline" }
            div.scroll.picture role="group" aria-labelledby="timeline-head" tabindex="0" {
                (PreEscaped(timeline_svg(timeline)))
            }
        }
        section aria-labelledby="story-head" {
            h2 #story-head { "Story" }
            ol.story {
                @for line in &story.lines {
                    li { span.at { (offset(line.at)) } " " (shown_line(&line.text)) }
                }
            }
            @if !story.costs.is_empty() {
                h3 { "Costs" }
                ul.costs { @for cost in &story.costs { li { (shown_line(cost)) } } }
            }
        }
    }
}
