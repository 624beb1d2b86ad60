//! The matrix: programs by phases and by classes of outcomes.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::links::PageLinks;
use crate::page::{
    columns::{Column, groups},
    page_reading::PageReading,
    readings::ProgramReading,
    timeline::format::{count, thousands},
};

pub(super) fn matrix(reading: &PageReading, links: &PageLinks<'_>) -> Markup {
    let groups = groups(links.by_time);
    html! {
        section aria-labelledby="programs-head" {
            div.bar {
                h2 #programs-head { "Programs" }
                p.switch {
                    "Finished calls by "
                    (switch(!links.by_time, "?", "share of the deadline"))
                    " or "
                    (switch(links.by_time, "?by=time", "time"))
                }
            }
            @if reading.programs.is_empty() {
                p.none { "No call has come yet." }
            } @else {
                div.scroll role="group" aria-labelledby="programs-head" tabindex="0" {
                    table.matrix {
                        thead {
                            tr {
                                th.name scope="col" rowspan="2" { "Program" }
                                @for group in &groups {
                                    th.group scope="colgroup" colspan=(group.columns.len()) { (group.head) }
                                }
                            }
                            tr {
                                @for group in &groups {
                                    @for (at, column) in group.columns.iter().enumerate() {
                                        th.first[at == 0] scope="col" { (column.head()) }
                                    }
                                }
                            }
                        }
                        tbody {
                            @for (row, program) in reading.programs.iter().enumerate() {
                                tr {
                                    th.name scope="row" { (program.name) }
                                    @for group in &groups {
                                        @for (at, column) in group.columns.iter().enumerate() {
                                            (cell(row, program, *column, at == 0, links))
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                @if reading.programs_not_shown > 0 {
                    p.none { (thousands(reading.programs_not_shown as u64)) " more" }
                }
            }
        }
    }
}

fn switch(is_on: bool, link: &str, words: &str) -> Markup {
    html! {
        @if is_on { strong aria-current="true" { (words) } } @else { a href=(link) { (words) } }
    }
}

fn cell(
    row: usize,
    program: &ProgramReading,
    column: Column,
    is_first: bool,
    links: &PageLinks<'_>,
) -> Markup {
    let number = column.count(&program.calls);
    if number == 0 {
        return html! { td.n.zero.first[is_first] { "0" } };
    }
    let name = utf8_percent_encode(&program.calls.name, NON_ALPHANUMERIC);
    let column_name = column.name();
    let link = format!("{}samples?program={name}&calls={column_name}", links.base);
    let words = format!(
        "{}: {} {}",
        program.name,
        count(number, "call"),
        column.words()
    );
    html! {
        td.n.first[is_first] {
            a.(column.class()) #(format!("cell-{row}-{column_name}")) href=(link) aria-label=(words) title=(words) {
                (thousands(number))
            }
        }
    }
}
