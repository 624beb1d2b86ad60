//! [`Interlude`]: what comes in a reply between its tokens.

use std::time::Duration;

/// What comes in a reply between two tokens, before the first or after the last.
#[derive(Clone, Debug)]
pub(super) enum Interlude {
    /// The same event so many times, each after this time.
    Repeat(SilentEvent, usize, Duration),
    /// The model's thinking, an event for each delta.
    Thinking(Vec<String>),
    /// An event whose data is not JSON.
    Garbage,
    /// An event with an error of this status, which ends the stream.
    Error(u16),
    /// Nothing more, ever.
    Stall,
}

/// An event of a stream that has nothing of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum SilentEvent {
    Ping,
    Comment,
    EmptyDelta,
}
