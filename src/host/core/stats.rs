//! A reading of a host's counters.

use std::time::Duration;

use crate::call::{Cost, Usage, Usd};

/// A reading of the host's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostStats {
    /// Calls ever handed to the host.
    pub submitted: u64,
    /// Calls that wait for their start.
    pub queued: u64,
    /// Calls that have started and whose work has not ended.
    pub running: u64,
    /// Calls whose work has ended, or never began.
    pub settled: u64,
    /// Calls whose caller has its outcome, or gave up, while their work goes on.
    pub orphans: u64,
    /// How long the oldest of the `orphans` has gone on since its answer; zero without one.
    pub orphan_age: Duration,
    /// Calls that were signalled to stop.
    pub cancelled: u64,
    /// Tasks, threads and child processes that calls had left behind.
    pub strays: u64,
    /// LM calls under way: what a host that is healthy and slow waits for.
    pub in_lm_calls: u64,
    /// HTTP requests of programs that were no LM calls, and went through the host with the deadline
    /// of their call.
    pub http_requests: u64,
    /// Threads that did not stop within their grace, were given up and still work; see
    /// [`Embedded::max_abandoned`](crate::host::Embedded::max_abandoned).
    pub abandoned: u64,
    /// Threads that took the place of an abandoned one.
    pub replaced: u64,
    /// Streams whose end has not been read, and which were not dropped.
    pub streams: u64,
    /// How often the slow reader of a stream held its program up.
    pub reader_stalls: u64,
    /// How long slow readers have held their programs up, in all.
    pub reader_stalled: Duration,
    /// How long the oldest waiting call has waited.
    pub queue_age: Duration,
    /// What the LM calls came to and cost.
    pub lm: LmTotals,
}

/// What LM calls came to and cost, of all calls since the host was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LmTotals {
    /// Exchanges whose whole answer came, whatever its status.
    pub answered: u64,
    /// Exchanges that a limit of time, or the deadline of their call, ended.
    pub elapsed: u64,
    /// Exchanges that ended with their cancelled call.
    pub cancelled: u64,
    /// Exchanges that were not sent at all.
    pub refused: u64,
    /// Exchanges that failed without an answer, or in the middle of one.
    pub failed: u64,
    /// LM calls that programs made past the host, by LMs that are no `dspy.LM` and clients other than
    /// httpx; they are in none of the other numbers.
    pub bypassed: u64,
    /// Requests of [`Lm::abort`](crate::Lm::abort) that the provider accepted: it answered with a
    /// status below 400.
    pub aborts: u64,
    /// Requests of [`Lm::abort`](crate::Lm::abort) that failed: the provider refused them, could not
    /// be reached or did not answer in time, or the hook panicked.
    pub aborts_failed: u64,
    /// Tokens used, as far as the providers reported them before their call was over.
    pub usage: Usage,
    /// Tokens of answers that came when their call was over already. They are not in `usage`.
    pub late_tokens: u64,
    /// Of the tokens in `usage`, those of calls that came to no answer.
    pub wasted_tokens: u64,
    /// What the LM calls cost that ended before their call was over.
    pub cost: Cost,
    /// In USD, what answers cost that came when their call was over already, as far as it is known. It
    /// is not in `cost`.
    pub late_usd: Usd,
    /// Calls that came to no answer and had left a partial one.
    pub partials: u64,
}
