//! The table of the calls under way.

use maud::{Markup, html};

use super::{cells::number, links::PageLinks};
use crate::{
    call::{CallId, Cause},
    page::{
        access::FormToken, page_reading::PageReading, readings::LiveReading,
        timeline::format::thousands, units::time,
    },
};

pub(super) fn live_calls(reading: &PageReading, links: &PageLinks<'_>) -> Markup {
    let total = reading.live.len() as u64 + reading.live_not_shown;
    html! {
        section aria-labelledby="calls-head" {
            div.bar {
                h2 #calls-head { "Under way " span.total { (thousands(total)) } }
                p.switch { "the least time left first" }
            }
            @if reading.live.is_empty() {
                p.none { "No call is under way." }
            } @else {
                div.scroll role="group" aria-labelledby="calls-head" tabindex="0" {
                    table.calls {
                        thead {
                            tr {
                                th.n scope="col" { "Call" }
                                th scope="col" { "Program" }
                                th scope="col" { "Stage" }
                                th.n scope="col" { "Elapsed" }
                                th scope="col" { "To the deadline" }
                                th.n scope="col" { "Left" }
                                th.n scope="col" { "Attempts" }
                                th.n scope="col" { "LM calls" }
                                th.n scope="col" { "Tokens" }
                                @if links.form_token.is_some() {
                                    th scope="col" { span.vh { "Cancel" } }
                                }
                            }
                        }
                        tbody { @for call in &reading.live { (row(call, links)) } }
                    }
                }
                @if reading.live_not_shown > 0 {
                    p.none { (thousands(reading.live_not_shown)) " more" }
                }
            }
        }
    }
}

fn row(call: &LiveReading, links: &PageLinks<'_>) -> Markup {
    let LiveReading { id, .. } = call;
    let back = if links.by_time {
        "list by time"
    } else {
        "list"
    };
    html! {
        tr {
            th.n scope="row" { a #(format!("call-{id}")) href=(format!("{}{id}", links.base)) { (id) } }
            td { (call.name) }
            td.stage { span.(call.stage_class) { (call.stage) } }
            td.n { (time(call.elapsed)) }
            td.deadline { (bar(call)) }
            td.n { @match call.left() { Some(left) => (time(left)), None => span.zero { "none set" } } }
            (number(call.attempts))
            (number(call.lm_calls))
            (number(call.tokens))
            @if let Some(token) = links.form_token {
                @let token = call.can_cancel.then_some(token);
                td.cancel { (cancel_form(links.base, *id, call.stopping, token, back)) }
            }
        }
    }
}

/// A bar that runs to the deadline.
fn bar(call: &LiveReading) -> Markup {
    let (Some(share), Some(deadline)) = (call.share(), call.deadline) else {
        return html! {};
    };
    let class = match share {
        _ if call.stopping.is_some() => "stops",
        ..0.75 => "good",
        ..1.0 => "close",
        _ => "bad",
    };
    let words = format!("{:.0} % of {} used", share * 100.0, time(deadline));
    html! {
        svg.used viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(words) {
            title { (words) }
            rect.track width="100" height="8" {}
            rect.(class) width=(format!("{:.1}", share * 100.0)) height="8" {}
        }
    }
}

/// By what a call was stopped; else the button that cancels it, if a token does.
pub(super) fn cancel_form(
    base: &str,
    id: CallId,
    stopping: Option<Cause>,
    token: Option<&FormToken>,
    back: &str,
) -> Markup {
    if let Some(cause) = stopping {
        return html! { span.zero { "stopped: " (cause) } };
    }
    let Some(token) = token else {
        return html! {};
    };
    html! {
        form method="post" action=(format!("{base}{id}/cancel")) {
            input type="hidden" name="token" value=(token.as_str());
            input type="hidden" name="back" value=(back);
            button #(format!("cancel-{id}")) type="submit" { "Cancel" span.vh { " call " (id) } }
        }
    }
}
