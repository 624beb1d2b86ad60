//! The calls of one scene, as its tracker has them.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};
use tower::{Layer, Service, util::MapErr};
use tower_dspy::{
    CallId, Error, LmOutcome, PredictRequest, Prediction, Track, TrackLayer, Tracker,
    timeline::{CallTimeline, LmCallTimeline},
};

use crate::{
    naive::{Naive, ask_naively},
    unparsed::Unparsed,
};

/// The label of calls without this crate's layers.
pub(crate) const NAIVE: &str = "naive: a detached task, whose caller gives up";
/// The label of calls through them.
pub(crate) const OURS: &str = "tower-dspy";
/// More than a scene has.
const MOST: usize = 64;

/// The calls of one scene.
#[derive(Debug)]
pub(crate) struct SceneCalls {
    tracker: Tracker,
    left_behind: Vec<Naive>,
    unparsed: Unparsed,
    /// Of naive calls that had to be ended: their timelines before that, which are open-ended.
    unended: Vec<CallTimeline>,
}

impl SceneCalls {
    pub(crate) fn new() -> Self {
        Self {
            tracker: Tracker::new().with_history(MOST).with_samples(MOST),
            left_behind: Vec::new(),
            unparsed: Unparsed::default(),
            unended: Vec::new(),
        }
    }

    /// The calls whose answers did not parse.
    pub(crate) fn unparsed(&self) -> &Unparsed {
        &self.unparsed
    }

    /// Whether the LM had answered a call before that was ended.
    pub(crate) fn has_lm_answer(&self, id: CallId) -> bool {
        let answered = |lm_call: &LmCallTimeline| {
            !lm_call.is_open && lm_call.call.outcome == LmOutcome::Answered
        };
        let timeline = self.tracker.timeline(id);
        timeline.is_some_and(|timeline| timeline.lm_calls.iter().any(answered))
    }

    /// The service, with its calls in the report under this label.
    pub(crate) fn tracked<S, T>(
        &self,
        label: &str,
        service: S,
    ) -> MapErr<Track<S>, impl FnOnce(Error) -> Error + Clone + Send + use<S, T>>
    where
        S: Service<PredictRequest, Response = T, Error = Error>,
        Track<S>: Service<PredictRequest, Response = T, Error = Error>,
    {
        let unparsed = self.unparsed.clone();
        let tracked = TrackLayer::new(self.tracker.clone()).with_label(label);
        MapErr::new(tracked.layer(service), move |error| unparsed.note(error))
    }

    /// Asks without this crate's layers, and gives up when `until` is ready.
    pub(crate) fn ask_naively<S, U>(
        &self,
        label: &str,
        service: S,
        request: PredictRequest,
        until: U,
    ) -> impl Future<Output = Naive> + use<S, U>
    where
        U: Future<Output = ()>,
        S: Service<PredictRequest, Response = Prediction, Error = Error> + Clone + Send + 'static,
        S::Future: Send,
    {
        let layer = TrackLayer::new(self.tracker.clone()).with_label(label);
        let unparsed = self.unparsed.clone();
        let service = MapErr::new(service, move |error| unparsed.note(error));
        ask_naively(layer, service, request, until)
    }

    /// Lets the work of a naive call go on until the scene ends.
    pub(crate) fn leave(&mut self, naive: Naive) {
        self.left_behind.push(naive);
    }

    /// Ends the work of a naive call. The report shows it as it is now.
    pub(crate) fn end(&mut self, naive: &Naive) {
        let timeline = self.tracker.timeline(naive.id);
        let goes_on = timeline.filter(|timeline| timeline.settled.is_none());
        self.unended.extend(goes_on);
        naive.left_behind.abort();
    }

    /// Waits until the work of naive calls has ended, and ends what goes on after `most`.
    pub(crate) async fn end_left_behind(&mut self, most: Duration) {
        let end = Instant::now() + most;
        while Instant::now() < end && !self.tracker.orphans(None, 1).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        for naive in std::mem::take(&mut self.left_behind) {
            self.end(&naive);
        }
    }

    /// Waits until all is settled, `most` at the longest, and reads the timelines in the order in which
    /// the calls came.
    pub(crate) async fn timelines(&self, most: Duration) -> Vec<CallTimeline> {
        let end = Instant::now() + most;
        let at_work = || !self.tracker.is_empty() || !self.tracker.orphans(None, 1).is_empty();
        while Instant::now() < end && at_work() {
            sleep(Duration::from_millis(2)).await;
        }
        let mut ids: Vec<_> = self.tracker.history().iter().map(|call| call.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let read = |id| {
            let unended = self.unended.iter().find(|timeline| timeline.id == Some(id));
            unended.cloned().or_else(|| self.tracker.timeline(id))
        };
        ids.into_iter().filter_map(read).collect()
    }
}
