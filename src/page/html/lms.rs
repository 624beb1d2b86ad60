//! The table of the LMs.

use std::time::Duration;

use maud::{Markup, html};

use super::cells::{bad_number, number};
use crate::page::{
    page_reading::PageReading,
    units::{cost, time},
};

pub(super) fn lms(reading: &PageReading) -> Markup {
    let Some(lms) = &reading.lms else {
        return html! {};
    };
    html! {
        section aria-labelledby="lms-head" {
            div.bar {
                h2 #lms-head { "LMs" }
                p.switch { "since the start of the host; first bytes of the last 5 to 10 minutes" }
            }
            @if lms.is_empty() {
                p.none { "No LM has been called yet." }
            } @else {
                div.scroll role="group" aria-labelledby="lms-head" tabindex="0" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Model" }
                                th.n scope="col" { "In flight" }
                                th.n scope="col" { "First byte p50" }
                                th.n scope="col" { "p99" }
                                th.n scope="col" { "Answered" }
                                th.n scope="col" { "429" }
                                th.n scope="col" { "5xx" }
                                th.n scope="col" { "Elapsed" }
                                th.n scope="col" { "Cancelled" }
                                th.n scope="col" { "Failed" }
                                th.n scope="col" { "Tokens" }
                                th.n scope="col" { "Wasted" }
                                th.n scope="col" { "Cost" }
                            }
                        }
                        tbody {
                            @for lm in lms {
                                tr {
                                    th.name scope="row" { (lm.name) }
                                    (number(lm.in_flight))
                                    (first_byte(lm.first_byte_p50))
                                    (first_byte(lm.first_byte_p99))
                                    (number(lm.answered))
                                    (bad_number(lm.too_many_requests))
                                    (bad_number(lm.server_errors))
                                    (bad_number(lm.elapsed))
                                    (number(lm.cancelled))
                                    (bad_number(lm.failed))
                                    (number(lm.tokens))
                                    (bad_number(lm.wasted_tokens))
                                    td.n { (cost(lm.cost)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn first_byte(after: Option<Duration>) -> Markup {
    html! { td.n { @match after { Some(after) => (time(after)), None => span.zero { "none" } } } }
}
