//! The samples of a tracker: finished calls of each class.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::call::{OutcomeClass, record::CallRecord};

/// The name of calls that have neither a label nor a program.
const UNNAMED: &str = "unnamed";
/// How many names there are at most: calls of others are samples of `OTHER`.
const MOST_NAMES: usize = 256;
const OTHER: &str = "other";

/// How long a call took, in classes of an order of magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct TookClass(u8);

impl TookClass {
    /// The least durations of the classes, in milliseconds.
    const FROM_MS: [u64; 9] = [0, 50, 100, 200, 500, 1_000, 10_000, 60_000, 600_000];

    /// All of them, the shortest first.
    #[must_use]
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..Self::FROM_MS.len() as u8).map(Self)
    }

    /// The least duration of this class.
    #[must_use]
    pub fn from(self) -> Duration {
        Duration::from_millis(Self::FROM_MS[usize::from(self.0)])
    }

    fn of(took: Duration) -> Self {
        let longer = Self::FROM_MS.partition_point(|ms| Duration::from_millis(*ms) <= took);
        Self(longer.saturating_sub(1) as u8)
    }
}

/// The calls of one program, as a [`Tracker`](crate::Tracker) with
/// [samples](crate::Tracker::with_samples) has counted them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramCalls {
    /// The label of the calls, or else their program.
    pub name: Arc<str>,
    /// Calls that wait for a service.
    pub waiting: u64,
    /// Calls that a service has taken and that were not signalled to stop.
    pub running: u64,
    /// Calls that were signalled to stop and are not answered yet.
    pub stopping: u64,
    /// Calls that are answered while their work goes on.
    pub orphans: u64,
    /// How many calls ended in each class; classes without any are left out.
    pub outcomes: BTreeMap<OutcomeClass, u64>,
    /// How many calls took how long; classes without any are left out.
    pub took: BTreeMap<TookClass, u64>,
}

impl ProgramCalls {
    pub(super) const fn new(name: Arc<str>) -> Self {
        Self {
            name,
            waiting: 0,
            running: 0,
            stopping: 0,
            orphans: 0,
            outcomes: BTreeMap::new(),
            took: BTreeMap::new(),
        }
    }
}

/// The finished calls of a tracker. The last ones of each class are kept, so that many good calls do
/// not displace a few late ones. It reads no record: that takes locks of their own.
#[derive(Default)]
pub(super) struct TrackSamples {
    /// How many are kept of each class; none is counted or kept if it is 0.
    pub(super) most: usize,
    programs: BTreeMap<Arc<str>, ProgramSamples>,
}

#[derive(Default)]
struct ProgramSamples {
    outcomes: BTreeMap<OutcomeClass, ClassSamples>,
    took: BTreeMap<TookClass, ClassSamples>,
}

#[derive(Default)]
struct ClassSamples {
    count: u64,
    last: VecDeque<Arc<CallRecord>>,
}

impl ClassSamples {
    /// Adds a call, and returns the one before it.
    fn add(&mut self, record: &Arc<CallRecord>, most: usize) -> Option<Arc<CallRecord>> {
        self.count += 1;
        while self.last.len() >= most.max(1) {
            self.last.pop_front();
        }
        let before = self.last.back().cloned();
        self.last.push_back(record.clone());
        before
    }

    fn latest_first(&self) -> Vec<Arc<CallRecord>> {
        self.last.iter().rev().cloned().collect()
    }
}

impl TrackSamples {
    /// Adds a finished call. Returns calls that were kept before it, whose partial answers are to be
    /// forgotten: they may be large.
    pub(super) fn add(
        &mut self,
        name: Option<Arc<str>>,
        (class, took): (OutcomeClass, Duration),
        record: &Arc<CallRecord>,
    ) -> Vec<Arc<CallRecord>> {
        if self.most == 0 {
            return Vec::new();
        }
        let name = name_of(name);
        let is_known = self.programs.contains_key(&name) || self.programs.len() < MOST_NAMES;
        let name = if is_known { name } else { OTHER.into() };
        let program = self.programs.entry(name).or_default();
        let outcome = program.outcomes.entry(class).or_default();
        let before = outcome.add(record, self.most);
        let took = program.took.entry(TookClass::of(took)).or_default();
        let before = before.into_iter().chain(took.add(record, self.most));
        before
            .filter(|before| !Arc::ptr_eq(before, record))
            .collect()
    }

    /// The finished calls by program.
    pub(super) fn count(&self) -> BTreeMap<Arc<str>, ProgramCalls> {
        let counted = |(name, samples): (&Arc<str>, &ProgramSamples)| {
            let mut program = ProgramCalls::new(name.clone());
            let outcomes = samples.outcomes.iter();
            program.outcomes = outcomes.map(|(class, of)| (*class, of.count)).collect();
            let took = samples.took.iter();
            program.took = took.map(|(class, of)| (*class, of.count)).collect();
            (name.clone(), program)
        };
        self.programs.iter().map(counted).collect()
    }

    pub(super) fn of_outcome(&self, name: &str, class: OutcomeClass) -> Vec<Arc<CallRecord>> {
        let program = self.programs.get(name);
        let samples = program.and_then(|program| program.outcomes.get(&class));
        samples.map(ClassSamples::latest_first).unwrap_or_default()
    }

    pub(super) fn of_took(&self, name: &str, class: TookClass) -> Vec<Arc<CallRecord>> {
        let program = self.programs.get(name);
        let samples = program.and_then(|program| program.took.get(&class));
        samples.map(ClassSamples::latest_first).unwrap_or_default()
    }

    /// The records that are kept, some of them more than once.
    pub(super) fn records(&self) -> impl Iterator<Item = &Arc<CallRecord>> {
        self.programs.values().flat_map(|program| {
            let outcomes = program.outcomes.values().flat_map(|samples| &samples.last);
            outcomes.chain(program.took.values().flat_map(|samples| &samples.last))
        })
    }
}

/// The calls of this name, which are none so far if there is no such entry.
pub(super) fn counted<'a>(
    programs: &'a mut BTreeMap<Arc<str>, ProgramCalls>,
    name: &Arc<str>,
) -> &'a mut ProgramCalls {
    let new = || ProgramCalls::new(name.clone());
    programs.entry(name.clone()).or_insert_with(new)
}

/// The name of a call under way.
pub(super) fn name_of(name: Option<Arc<str>>) -> Arc<str> {
    name.unwrap_or_else(|| UNNAMED.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_belongs_to_the_class_that_begins_at_or_before_it() {
        let least = |ms| TookClass::of(Duration::from_millis(ms)).from().as_millis();
        let ends = [0, 49, 50, 199, 999, 10_000, 600_000, u64::MAX];
        assert_eq!(
            ends.map(least),
            [0, 0, 50, 100, 500, 10_000, 600_000, 600_000]
        );
    }

    #[test]
    fn many_good_calls_displace_no_late_one_and_names_are_bounded() {
        let mut samples = TrackSamples {
            most: 10,
            ..TrackSamples::default()
        };
        let mut add = |name: &str, class, count: usize| {
            for _ in 0..count {
                let finished = (class, Duration::ZERO);
                samples.add(Some(name.into()), finished, &CallRecord::open());
            }
        };
        add("qa", OutcomeClass::Late, 3);
        add("qa", OutcomeClass::Within25, 5000);
        for n in 0..2 * MOST_NAMES {
            add(&n.to_string(), OutcomeClass::Failed, 1);
        }
        assert_eq!(samples.of_outcome("qa", OutcomeClass::Late).len(), 3);
        assert_eq!(samples.of_outcome("qa", OutcomeClass::Within25).len(), 10);
        let programs = samples.count();
        assert_eq!(programs["qa"].outcomes[&OutcomeClass::Within25], 5000);
        assert!(programs.len() <= MOST_NAMES + 1);
        assert_eq!(samples.of_outcome(OTHER, OutcomeClass::Failed).len(), 10);
    }
}
