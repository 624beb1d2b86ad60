//! What the page of all calls shows, read at one moment: the HTML, the text and the JSON are made of
//! it.

use std::cmp::Reverse;

use serde::Serialize;

use super::{
    headline::{HeadFacts, Headline},
    readings::{LiveReading, LmReading, ProgramReading, WorkersReading},
    sources::PageSources,
};
use crate::layers::track::ProgramCalls;

/// How many live calls are shown.
const MOST_LIVE: usize = 200;
/// How many programs are shown.
const MOST_PROGRAMS: usize = 100;

/// One reading.
#[derive(Debug, Serialize)]
pub(super) struct PageReading {
    #[serde(flatten)]
    pub(super) headline: Headline,
    pub(super) programs: Vec<ProgramReading>,
    pub(super) programs_not_shown: usize,
    /// Calls under way, those with the least time left first.
    pub(super) live: Vec<LiveReading>,
    pub(super) live_not_shown: u64,
    pub(super) lms: Option<Vec<LmReading>>,
    pub(super) workers: Option<WorkersReading>,
}

impl PageReading {
    pub(super) fn of(sources: &PageSources) -> Self {
        let tracker = &sources.tracker;
        let mut programs = tracker.programs();
        let sum = |of: fn(&ProgramCalls) -> u64| programs.iter().map(of).sum::<u64>();
        let (waiting, running) = (sum(|of| of.waiting), sum(|of| of.running));
        let (stopping, orphans) = (sum(|of| of.stopping), sum(|of| of.orphans));
        let live: Vec<_> = tracker.timelines(MOST_LIVE);
        let under_way = waiting + running + stopping;
        let workers = sources.workers();
        let facts = HeadFacts {
            running,
            waiting,
            stopping,
            orphans,
            overdue: tracker.overdue(),
            budgets: sources.budgets(),
            ..sources.host_facts(workers.as_ref())
        };
        let programs_not_shown = programs.len().saturating_sub(MOST_PROGRAMS);
        if programs_not_shown > 0 {
            // Those with calls under way matter most.
            let live = |of: &ProgramCalls| of.waiting + of.running + of.stopping + of.orphans;
            programs.sort_by_key(|of| Reverse(live(of)));
            programs.truncate(MOST_PROGRAMS);
        }
        let has_host = sources.has_host();
        let mut live: Vec<_> = live
            .iter()
            .filter_map(|call| LiveReading::of(call, has_host))
            .collect();
        let cancellable = tracker.cancellable(&live.iter().map(|call| call.id).collect());
        for call in &mut live {
            call.can_cancel = cancellable.contains(&call.id);
        }
        Self {
            headline: Headline::of(&facts),
            live_not_shown: under_way.saturating_sub(live.len() as u64),
            live,
            programs: programs.into_iter().map(ProgramReading::of).collect(),
            programs_not_shown,
            lms: sources.lms(),
            workers,
        }
    }
}
