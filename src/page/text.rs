//! The page as text, for `curl`.

use std::time::Duration;

use super::{
    columns::groups,
    page_reading::PageReading,
    text_table::TextTable,
    units::{cost, memory, time},
};

/// The page of all calls.
pub(super) fn page(reading: &PageReading, by_time: bool) -> String {
    let headline = &reading.headline;
    let mut page = format!("{} {}\n", headline.state, headline.figures);
    let mut section = |head: &str, table: TextTable, more: u64| {
        page.push_str(&format!("\n{head}\n{table}"));
        if more > 0 {
            page.push_str(&format!("{more} more\n"));
        }
    };
    let programs = programs(reading, by_time);
    section("PROGRAMS", programs, reading.programs_not_shown as u64);
    section("UNDER WAY", live(reading), reading.live_not_shown);
    if let Some(lms) = lms(reading) {
        section("LMS", lms, 0);
    }
    if let Some(workers) = workers(reading) {
        section("WORKERS", workers, 0);
    }
    page
}

fn programs(reading: &PageReading, by_time: bool) -> TextTable {
    let columns: Vec<_> = groups(by_time)
        .into_iter()
        .flat_map(|group| group.columns)
        .collect();
    let heads = columns.iter().map(|column| column.head());
    let mut table = TextTable::new(1, std::iter::once("program".to_owned()).chain(heads));
    for program in &reading.programs {
        let counts = columns.iter().map(|column| column.count(&program.calls));
        let counts = counts.map(|count| count.to_string());
        table.row(std::iter::once(program.name.clone()).chain(counts));
    }
    table
}

fn live(reading: &PageReading) -> TextTable {
    let heads = [
        "program", "stage", "call", "elapsed", "deadline", "left", "attempts", "LM calls", "tokens",
    ];
    let mut table = TextTable::new(2, heads.map(str::to_owned));
    for call in &reading.live {
        let or_none = |at: Option<Duration>| at.map_or_else(|| "-".to_owned(), time);
        table.row([
            call.name.clone(),
            call.stage.clone(),
            call.id.to_string(),
            time(call.elapsed),
            or_none(call.deadline),
            or_none(call.left()),
            call.attempts.to_string(),
            call.lm_calls.to_string(),
            call.tokens.to_string(),
        ]);
    }
    table
}

fn lms(reading: &PageReading) -> Option<TextTable> {
    let heads = [
        "model",
        "in flight",
        "p50",
        "p99",
        "answered",
        "429",
        "5xx",
        "elapsed",
        "cancelled",
        "failed",
        "tokens",
        "wasted",
        "cost",
    ];
    let mut table = TextTable::new(1, heads.map(str::to_owned));
    for lm in reading.lms.as_ref()? {
        let or_none = |after: Option<Duration>| after.map_or_else(|| "-".to_owned(), time);
        table.row([
            lm.name.clone(),
            lm.in_flight.to_string(),
            or_none(lm.first_byte_p50),
            or_none(lm.first_byte_p99),
            lm.answered.to_string(),
            lm.too_many_requests.to_string(),
            lm.server_errors.to_string(),
            lm.elapsed.to_string(),
            lm.cancelled.to_string(),
            lm.failed.to_string(),
            lm.tokens.to_string(),
            lm.wasted_tokens.to_string(),
            cost(lm.cost),
        ]);
    }
    Some(table)
}

fn workers(reading: &PageReading) -> Option<TextTable> {
    let heads = [
        "state",
        "health",
        "process",
        "age",
        "memory",
        "in flight",
        "calls",
    ];
    let mut table = TextTable::new(2, heads.map(str::to_owned));
    let workers = reading.workers.as_ref()?;
    for worker in &workers.processes {
        table.row([
            worker.state.clone(),
            worker.health.clone(),
            worker.pid.to_string(),
            time(worker.age),
            worker.resident_bytes.map_or_else(|| "-".to_owned(), memory),
            worker.in_flight.to_string(),
            worker.calls.to_string(),
        ]);
    }
    for ended in &workers.ended {
        let pid = ended
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let ago = format!("{} ago", time(ended.before));
        table.row(["ended".to_owned(), ended.reason.clone(), pid, ago]);
    }
    Some(table)
}
