//! The tokens of the last minute: what LM calls spent, what those under way may spend, and the queue of
//! those that wait.
//!
//! Invariants:
//! 1. A call is admitted if the tokens of the window and its estimate are within the limit, under one
//!    lock, in the order in which the calls came. One whose estimate is more than the limit is admitted
//!    alone.
//! 2. An entry leaves the window a minute after its call was admitted, whatever became of the call.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// By when they leave.
    entries: BTreeMap<EntryKey, Entry>,
    /// The tokens of all entries.
    used: u64,
    /// The calls that wait, with their ids.
    queue: VecDeque<(u64, Entry)>,
    next_id: u64,
}

/// When an entry leaves, and its id.
type EntryKey = (Instant, u64);

/// The tokens of a call.
#[derive(Clone, Copy, Debug)]
struct Entry {
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
        let call = Entry {
            tokens: estimate.total().min(self.limit),
            least: estimate.prompt.min(self.limit),
        };
        let waiting = {
            let mut state = self.lock();
            if state.queue.is_empty() && self.fits(&state, call) {
                return Ok(self.admit(&mut state, call));
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
                        return Ok(self.admit(&mut state, call));
                    }
                    self.check(&state, Some(waiting.id), call, until)?;
                    let all = state.entries.iter();
                    let all = all.map(|((at, _), entry)| (*at, entry.tokens));
                    earliest(self.limit, all, [call])
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
            state.add(
                lasts,
                Entry {
                    tokens: others,
                    least: others,
                },
            );
        }
    }

    const fn fits(&self, state: &WindowState, call: Entry) -> bool {
        state.used.saturating_add(call.tokens) <= self.limit
    }

    fn admit(self: &Arc<Self>, state: &mut WindowState, call: Entry) -> TokenReservation {
        TokenReservation {
            key: state.add(MINUTE, call),
            window: self.clone(),
            charge: Some(0),
        }
    }

    /// Refuses a call that cannot be admitted before `until` whatever the calls before it settle for.
    fn check(
        &self,
        state: &WindowState,
        id: Option<u64>,
        call: Entry,
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
    fn next(&self, state: &WindowState, id: Option<u64>, call: Entry) -> Instant {
        let least = state.entries.iter();
        let least = least.map(|((at, _), entry)| (*at, entry.least));
        let before = state.queue.iter().take_while(|(of, _)| Some(*of) != id);
        let before = before.map(|(_, call)| *call);
        earliest(self.limit, least, before.chain([call]))
    }

    /// The state without the entries that have left.
    fn lock(&self) -> MutexGuard<'_, WindowState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some(first) = state.entries.first_entry()
            && first.key().0 <= now
        {
            let left = first.remove();
            state.used = state.used.saturating_sub(left.tokens);
        }
        state
    }
}

impl WindowState {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn add(&mut self, lasts: Duration, entry: Entry) -> EntryKey {
        let key = (Instant::now() + lasts, self.id());
        self.used = self.used.saturating_add(entry.tokens);
        self.entries.insert(key, entry);
        key
    }
}

/// The instant at which the last of `calls`, one after the other, is within the limit, beside entries
/// that leave at these instants, the first first. Each call settles for its least at once.
fn earliest(
    limit: u64,
    entries: impl Iterator<Item = (Instant, u64)>,
    calls: impl IntoIterator<Item = Entry>,
) -> Instant {
    let mut at = Instant::now();
    let mut entries: VecDeque<_> = entries.collect();
    let tokens = entries.iter().map(|(_, tokens)| *tokens);
    let mut used = tokens.fold(0, u64::saturating_add);
    for call in calls {
        while used.saturating_add(call.tokens) > limit
            && let Some((leaves, left)) = entries.pop_front()
        {
            at = at.max(leaves);
            used = used.saturating_sub(left);
        }
        entries.push_back((at + MINUTE, call.least));
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

/// The tokens that are reserved for a call, until this is dropped.
#[derive(Debug)]
pub(super) struct TokenReservation {
    window: Arc<TokenWindow>,
    key: EntryKey,
    /// The tokens that stay in the window; `None` for those that are reserved.
    charge: Option<u64>,
}

impl TokenReservation {
    /// The request goes to the provider, which may take it for the whole estimate.
    pub(super) const fn sent(&mut self) {
        self.charge = None;
    }

    /// The call took so many tokens.
    pub(super) fn settle(mut self, tokens: u64) {
        self.charge = Some(tokens);
    }

    /// The call was ended before its end, and had taken so many tokens by then.
    pub(super) fn cut(mut self, told: u64) {
        let state = self.window.lock();
        let reserved = state.entries.get(&self.key);
        self.charge = reserved.map(|entry| entry.tokens.max(told));
        drop(state);
    }
}

impl Drop for TokenReservation {
    fn drop(&mut self) {
        let mut state = self.window.lock();
        let Some(entry) = state.entries.get_mut(&self.key) else {
            return;
        };
        let before = entry.tokens;
        let tokens = self.charge.unwrap_or(before);
        *entry = Entry {
            tokens,
            least: tokens,
        };
        state.used = state.used.saturating_sub(before).saturating_add(tokens);
        drop(state);
        self.window.freed.notify_one();
    }
}
