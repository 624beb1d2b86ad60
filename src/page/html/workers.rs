//! The table of the worker processes.

use maud::{Markup, html};

use super::cells::number;
use crate::page::{
    page_reading::PageReading,
    readings::WorkersReading,
    timeline::format::{count, thousands},
    units::{memory, time},
};

pub(super) fn workers(reading: &PageReading) -> Markup {
    let Some(workers) = &reading.workers else {
        return html! {};
    };
    html! {
        section aria-labelledby="workers-head" {
            div.bar {
                h2 #workers-head { "Workers" }
                p.switch { (ends(workers)) }
            }
            div.scroll role="group" aria-labelledby="workers-head" tabindex="0" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Process" }
                            th scope="col" { "State" }
                            th scope="col" { "Health" }
                            th.n scope="col" { "Age" }
                            th.n scope="col" { "Memory" }
                            th.n scope="col" { "In flight" }
                            th.n scope="col" { "Calls" }
                        }
                    }
                    tbody {
                        @for worker in &workers.processes {
                            tr {
                                th scope="row" { (worker.pid) }
                                td { (worker.state) }
                                td { (worker.health) }
                                td.n { (time(worker.age)) }
                                td.n { @if let Some(bytes) = worker.resident_bytes { (memory(bytes)) } }
                                (number(worker.in_flight))
                                (number(worker.calls))
                            }
                        }
                    }
                }
            }
            @if !workers.ended.is_empty() {
                h3 { "Ended lately" }
                ul.ended {
                    @for ended in &workers.ended {
                        li {
                            @if let Some(pid) = ended.pid { "process " (pid) ", " }
                            (time(ended.before)) " ago: " (ended.reason)
                        }
                    }
                }
            }
        }
    }
}

/// How many workers ended, and how.
fn ends(workers: &WorkersReading) -> String {
    let WorkersReading {
        killed,
        lost,
        recycled,
        calls_lost,
        ..
    } = workers;
    let calls_lost = count(*calls_lost, "call");
    let [killed, lost, recycled] = [*killed, *lost, *recycled].map(thousands);
    format!(
        "{lost} lost, {killed} of them killed for their calls; {recycled} recycled; {calls_lost} lost"
    )
}
