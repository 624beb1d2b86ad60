//! Readings of a [`Tracker`]: timelines, samples and the calls of each program. Records are read outside
//! of the lock of the registry, so that a reader of many holds up no call.

#[cfg(feature = "debug-page")]
use std::collections::HashSet;
use std::sync::Arc;

use super::{
    samples::{ProgramCalls, TookClass, counted, name_of},
    tracker::{TrackedCall, Tracker},
};
use crate::call::{
    CallId, OutcomeClass,
    record::{CallRecord, timeline::CallTimeline},
};

/// How many calls are at which phase now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallPhases {
    /// Calls that wait for a service.
    pub waiting: u64,
    /// Calls that a service has taken and that were not signalled to stop.
    pub running: u64,
    /// Calls that were signalled to stop and are not answered yet.
    pub stopping: u64,
    /// Calls that are answered while their work goes on.
    pub orphans: u64,
}

/// How far a call is that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LivePhase {
    /// It waits for a service.
    Waiting,
    /// A service has taken it.
    Running,
    /// It was signalled to stop.
    Stopping,
}

impl Tracker {
    /// The timeline of the call with this id: the latest that is under way, else one whose work goes on
    /// or that is [kept](Self::with_samples).
    #[must_use]
    pub fn timeline(&self, id: CallId) -> Option<CallTimeline> {
        let (live, kept) = self.calls.inspect(|mut calls, account| {
            let live = calls.rfind(|call| call.id == id);
            let live = live.map(|call| call.record.clone());
            let mut kept = Vec::new();
            if live.is_none() {
                kept = account.unsettled.list();
                kept.extend(account.samples.records().cloned());
            }
            (live, kept)
        });
        let of_id = |record: &&Arc<CallRecord>| record.id() == Some(id);
        let record = live.as_ref().or_else(|| kept.iter().find(of_id));
        record.map(|record| record.timeline())
    }

    /// The timelines of the calls that are under way, those with the least time left first, of at most
    /// `most` calls.
    #[must_use]
    pub fn timelines(&self, most: usize) -> Vec<CallTimeline> {
        self.timelines_where(|_| true, most)
    }

    /// The same of the calls of this name in this phase alone.
    #[cfg(feature = "debug-page")]
    pub(crate) fn timelines_in(
        &self,
        name: &str,
        phase: LivePhase,
        most: usize,
    ) -> Vec<CallTimeline> {
        let is_of =
            |call: &TrackedCall| call.phase() == phase && *name_of(call.record.name()) == *name;
        self.timelines_where(is_of, most)
    }

    /// How many calls are under way past their deadline.
    #[cfg(feature = "debug-page")]
    pub(crate) fn overdue(&self) -> u64 {
        let calls = self.live().into_iter();
        let deadlines = calls.filter_map(|call| call.record.deadline());
        deadlines.filter(|deadline| deadline.is_past()).count() as u64
    }

    /// Those of `ids` whose calls can be cancelled and were not yet.
    #[cfg(feature = "debug-page")]
    pub(crate) fn cancellable(&self, ids: &HashSet<CallId>) -> HashSet<CallId> {
        let nodes: Vec<_> = self.calls.inspect(|calls, _| {
            let of_them = calls.filter(|call| ids.contains(&call.id));
            of_them.map(|call| (call.id, call.cancel.clone())).collect()
        });
        let nodes = nodes.into_iter();
        nodes
            .filter(|(_, node)| node.is_some() && !node.is_cancelled())
            .map(|(id, _)| id)
            .collect()
    }

    fn timelines_where(
        &self,
        is_wanted: impl Fn(&TrackedCall) -> bool,
        most: usize,
    ) -> Vec<CallTimeline> {
        let calls = self.live().into_iter();
        let mut calls: Vec<_> = calls
            .filter(is_wanted)
            .map(|call| (call.record.deadline(), call.id, call.record))
            .collect();
        // None is later than any.
        calls.sort_by_key(|(deadline, id, _)| (deadline.is_none(), *deadline, *id));
        calls.truncate(most);
        calls.iter().map(|(.., record)| record.timeline()).collect()
    }

    /// The timelines of answered calls whose work goes on, the first to be answered first, of at most
    /// `most` calls; of those of this name only, if there is one.
    #[must_use]
    pub fn orphans(&self, name: Option<&str>, most: usize) -> Vec<CallTimeline> {
        let orphans = self.unsettled().into_iter();
        let is_of =
            |record: &Arc<CallRecord>| name.is_none_or(|name| *name_of(record.name()) == *name);
        let orphans = orphans.filter(is_of).take(most);
        orphans.map(|record| record.timeline()).collect()
    }

    /// The timelines that are kept of calls of this name and this class, the latest first.
    #[must_use]
    pub fn sampled(&self, name: &str, class: OutcomeClass) -> Vec<CallTimeline> {
        let records = self
            .calls
            .inspect(|_, account| account.samples.of_outcome(name, class));
        records.iter().map(|record| record.timeline()).collect()
    }

    /// The timelines that are kept of calls of this name that took so long, the latest first.
    #[must_use]
    pub fn sampled_by_time(&self, name: &str, took: TookClass) -> Vec<CallTimeline> {
        let records = self
            .calls
            .inspect(|_, account| account.samples.of_took(name, took));
        records.iter().map(|record| record.timeline()).collect()
    }

    /// The calls of each program, sorted by name. Finished calls are counted from when
    /// [samples](Self::with_samples) are kept.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramCalls> {
        let mut programs = self.calls.inspect(|_, account| account.samples.count());
        for call in self.live() {
            let program = counted(&mut programs, &name_of(call.record.name()));
            *call.phase().count(program) += 1;
        }
        for record in self.unsettled() {
            counted(&mut programs, &name_of(record.name())).orphans += 1;
        }
        programs.into_values().collect()
    }

    /// How many calls wait, run, stop, or go on after their answer.
    #[must_use]
    pub fn phases(&self) -> CallPhases {
        let mut all = ProgramCalls::new("".into());
        for call in self.live() {
            *call.phase().count(&mut all) += 1;
        }
        CallPhases {
            waiting: all.waiting,
            running: all.running,
            stopping: all.stopping,
            orphans: self.unsettled().len() as u64,
        }
    }

    /// The calls that are under way, without those of layers that track their attempts.
    fn live(&self) -> Vec<TrackedCall> {
        self.calls.inspect(|calls, _| {
            let outermost = calls.filter(|call| call.is_outermost);
            outermost.cloned().collect()
        })
    }

    fn unsettled(&self) -> Vec<Arc<CallRecord>> {
        self.calls.inspect(|_, account| account.unsettled.list())
    }
}

impl TrackedCall {
    fn phase(&self) -> LivePhase {
        let is_stopping = self.cancel.cause().is_some() || self.record.is_stopping();
        match (self.runs, is_stopping) {
            (_, true) => LivePhase::Stopping,
            (true, false) => LivePhase::Running,
            (false, false) => LivePhase::Waiting,
        }
    }
}

impl LivePhase {
    /// The count of `program` that calls in this phase belong to.
    const fn count(self, program: &mut ProgramCalls) -> &mut u64 {
        match self {
            Self::Waiting => &mut program.waiting,
            Self::Running => &mut program.running,
            Self::Stopping => &mut program.stopping,
        }
    }
}
