//! The tokens of the last minute: what LM calls spent, what those under way may spend, and the queue of
//! those that wait.
//!
//! Invariants:
//! 1. A call is admitted if the tokens of the window and its estimate are within the limit, under one
//!    lock, in the order in which the calls came. One whose estimate is more than the limit is admitted
//!    alone.
//! 2. An entry leaves the window a minute after its request was sent, whatever became of the call. One
//!    whose request is not sent yet stays, and leaves at once if its call ends before.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};

use crate::lm::{
    estimate::{CompletionHistory, TokenEstimate},
    rate_headers::RateLeft,
};

/// The time that a rate limit is over.
const MINUTE: Duration = Duration::from_secs(60);

/// The window that all clones of a layer share.
#[derive(Debug)]
pub(super) struct TokenWindow {
    pub(super) limit: u64,
    pub(super) history: CompletionHistory,
    state: Mutex<WindowState>,
    /// The head of the queue holds it: FIFO.
    turn: Semaphore,
    /// Wakes the head of the queue.
    freed: Notify,
}

#[derive(Debug, Default)]
struct WindowState {
    /// The calls that were sent, by when they leave and their ids.
    sent: BTreeMap<(Instant, u64), WindowEntry>,
    /// The calls that were admitted and are not sent yet, by their ids.
    unsent: BTreeMap<u64, WindowEntry>,
    /// The tokens of all entries.
    used: u64,
    /// The sum of their `least`.
    least: u64,
    /// The calls that wait, with their ids.
    queue: VecDeque<(u64, WindowEntry)>,
    next_id: u64,
}

/// The tokens of a call.
#[derive(Clone, Copy, Debug)]
struct WindowEntry {
    /// Those that are reserved for it, or that it took.
    tokens: u64,
    /// What it will have taken at least, once it is settled.
    least: u64,
}

impl TokenWindow {
    /// A window that holds `limit` tokens.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            history: CompletionHistory::default(),
            state: Mutex::default(),
            turn: Semaphore::new(1),
            freed: Notify::new(),
        }
    }

    /// The tokens that are left now.
    pub(super) fn remaining(&self) -> u64 {
        let state = self.lock();
        self.limit.saturating_sub(state.used)
    }

    /// Reserves the tokens of a call as soon as they are within the limit.
    ///
    /// # Errors
    /// The time until they can be, if that is not before `until`; at once, where it is known.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        estimate: TokenEstimate,
        until: Option<Instant>,
    ) -> Result<TokenReservation, Duration> {
        let call = WindowEntry {
            tokens: estimate.total().min(self.limit),
            least: estimate.prompt.min(self.limit),
        };
        let waiting = {
            let mut state = self.lock();
            if state.queue.is_empty() && self.fits(&state, call) {
                let id = state.id();
                return Ok(self.admit(&mut state, id, call));
            }
            self.check(&state, None, call, until)?;
            let id = state.id();
            state.queue.push_back((id, call));
            QueuedCall { window: self, id }
        };
        let admitted = async {
            // It is never closed.
            let _turn = self.turn.acquire().await;
            loop {
                let next = {
                    let mut state = self.lock();
                    if self.fits(&state, call) {
                        return Ok(self.admit(&mut state, waiting.id, call));
                    }
                    self.check(&state, Some(waiting.id), call, until)?;
                    let leaving = state.leaving(|entry| entry.tokens);
                    earliest(self.limit, state.used, leaving, [call])
                };
                // A call may settle for less before that.
                let _ = timeout_at(next, self.freed.notified()).await;
            }
        };
        match until {
            None => admitted.await,
            Some(until) => timeout_at(until, admitted).await.unwrap_or_else(|_| {
                let state = self.lock();
                let next = self.next(&state, Some(waiting.id), call);
                Err(next.saturating_duration_since(Instant::now()))
            }),
        }
    }

    /// Learns what the provider says is left: what others took of it is not here.
    pub(super) fn learn(&self, left: RateLeft) {
        let Some(remaining) = left.remaining else {
            return;
        };
        let mut state = self.lock();
        let others = self
            .limit
            .saturating_sub(state.used)
            .saturating_sub(remaining);
        if others > 0 {
            let lasts = left.reset.unwrap_or(MINUTE).min(MINUTE);
            let key = (Instant::now() + lasts, state.id());
            let entry = WindowEntry::of(others);
            state.count(entry);
            state.sent.insert(key, entry);
        }
    }

    const fn fits(&self, state: &WindowState, call: WindowEntry) -> bool {
        state.used.saturating_add(call.tokens) <= self.limit
    }

    /// Under one lock with its place in the queue: no call is counted twice.
    fn admit(
        self: &Arc<Self>,
        state: &mut WindowState,
        id: u64,
        call: WindowEntry,
    ) -> TokenReservation {
        state.queue.retain(|(of, _)| *of != id);
        state.count(call);
        state.unsent.insert(id, call);
        TokenReservation {
            call: Arc::new(AdmittedCall {
                window: self.clone(),
                id,
                leaves: OnceLock::new(),
            }),
            charge: None,
        }
    }

    /// Refuses a call that cannot be admitted before `until` whatever the calls before it settle for.
    fn check(
        &self,
        state: &WindowState,
        id: Option<u64>,
        call: WindowEntry,
        until: Option<Instant>,
    ) -> Result<(), Duration> {
        let Some(until) = until else { return Ok(()) };
        let next = self.next(state, id, call);
        match next < until {
            true => Ok(()),
            false => Err(next.saturating_duration_since(Instant::now())),
        }
    }

    /// The earliest instant at which a call can be admitted: that of the queue with this id, or one
    /// that comes now.
    fn next(&self, state: &WindowState, id: Option<u64>, call: WindowEntry) -> Instant {
        let leaving = state.leaving(|entry| entry.least);
        let before = state.queue.iter().take_while(|(of, _)| Some(*of) != id);
        let before = before.map(|(_, call)| *call);
        earliest(self.limit, state.least, leaving, before.chain([call]))
    }

    /// The state without the entries that have left.
    fn lock(&self) -> MutexGuard<'_, WindowState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some(first) = state.sent.first_entry()
            && first.key().0 <= now
        {
            let left = first.remove();
            state.uncount(left);
        }
        state
    }
}

impl WindowState {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    const fn count(&mut self, entry: WindowEntry) {
        self.used = self.used.saturating_add(entry.tokens);
        self.least = self.least.saturating_add(entry.least);
    }

    const fn uncount(&mut self, entry: WindowEntry) {
        self.used = self.used.saturating_sub(entry.tokens);
        self.least = self.least.saturating_sub(entry.least);
    }

    /// When entries leave, the first first, and how many tokens go with each. What is not sent yet is
    /// sent now at the earliest.
    fn leaving(&self, tokens: fn(&WindowEntry) -> u64) -> impl Iterator<Item = (Instant, u64)> {
        let last = Instant::now() + MINUTE;
        let sent = self.sent.iter();
        let sent = sent.map(move |((at, _), entry)| (*at, tokens(entry)));
        let unsent = self.unsent.values();
        sent.chain(unsent.map(move |entry| (last, tokens(entry))))
    }
}

impl WindowEntry {
    /// That of a call which took so many.
    const fn of(tokens: u64) -> Self {
        Self {
            tokens,
            least: tokens,
        }
    }
}

/// The instant at which the last of `calls`, one after the other, is within the limit, beside entries
/// of `used` tokens that leave at these instants, the first first. Each call settles for its least at
/// once. Only the entries that have to leave are visited.
fn earliest(
    limit: u64,
    mut used: u64,
    mut entries: impl Iterator<Item = (Instant, u64)>,
    calls: impl IntoIterator<Item = WindowEntry>,
) -> Instant {
    let mut at = Instant::now();
    let mut admitted = VecDeque::new();
    for call in calls {
        while used.saturating_add(call.tokens) > limit
            && let Some((leaves, left)) = entries.next().or_else(|| admitted.pop_front())
        {
            at = at.max(leaves);
            used = used.saturating_sub(left);
        }
        admitted.push_back((at + MINUTE, call.least));
        used = used.saturating_add(call.least);
    }
    at
}

/// A call's place in the queue.
struct QueuedCall<'a> {
    window: &'a TokenWindow,
    id: u64,
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        let mut state = self.window.lock();
        state.queue.retain(|(id, _)| *id != self.id);
    }
}

/// A call that was admitted.
#[derive(Debug)]
pub(super) struct AdmittedCall {
    window: Arc<TokenWindow>,
    id: u64,
    /// When its entry leaves, once its request was sent; set under the lock of the window.
    leaves: OnceLock<Instant>,
}

impl AdmittedCall {
    /// Its request is sent: the minute of its tokens begins. A second attempt changes nothing.
    pub(super) fn sent(&self) {
        let mut state = self.window.lock();
        if let Some(entry) = state.unsent.remove(&self.id) {
            let leaves = Instant::now() + MINUTE;
            state.sent.insert((leaves, self.id), entry);
            let _ = self.leaves.set(leaves);
        }
    }
}

/// The tokens that are reserved for a call. Once this is dropped, those of a request that was not sent
/// are free.
#[derive(Debug)]
pub(super) struct TokenReservation {
    pub(super) call: Arc<AdmittedCall>,
    /// The tokens that stay in the window; `None` for those that are reserved.
    charge: Option<u64>,
}

impl TokenReservation {
    /// The call took so many tokens.
    pub(super) fn settle(mut self, tokens: u64) {
        self.charge = Some(tokens);
    }

    /// The call was ended before its end, and the provider had counted so many tokens by then.
    pub(super) fn cut(mut self, counted: u64) {
        let AdmittedCall { window, id, leaves } = &*self.call;
        let state = window.lock();
        let reserved = leaves.get().and_then(|at| state.sent.get(&(*at, *id)));
        let charge = reserved.map(|entry| entry.tokens.max(counted));
        drop(state);
        self.charge = charge;
    }
}

impl Drop for TokenReservation {
    fn drop(&mut self) {
        let AdmittedCall { window, id, leaves } = &*self.call;
        let mut state = window.lock();
        match leaves.get() {
            None => {
                if let Some(entry) = state.unsent.remove(id) {
                    state.uncount(entry);
                }
            }
            Some(at) => {
                let Some(entry) = state.sent.get_mut(&(*at, *id)) else {
                    return;
                };
                let before = *entry;
                let after = WindowEntry::of(self.charge.unwrap_or(before.tokens));
                *entry = after;
                state.uncount(before);
                state.count(after);
            }
        }
        drop(state);
        window.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_admitted_leaves_the_queue_under_the_same_lock() {
        let window = Arc::new(TokenWindow::new(1000));
        let call = WindowEntry::of(600);
        let mut state = window.lock();
        let id = state.id();
        state.queue.push_back((id, call));
        let admitted = window.admit(&mut state, id, call);
        // A call that comes now has only that entry before it.
        let soon = Instant::now() + Duration::from_secs(1);
        let checked = window.check(&state, None, WindowEntry::of(300), Some(soon));
        drop(state);
        assert_eq!(checked, Ok(()));
        drop(admitted);
        assert_eq!(window.remaining(), 1000);
    }
}
