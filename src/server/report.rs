//! [`ServeReport`]: the result of a server's end.

use std::fmt;

use crate::{error::counted, layers::shutdown::ShutdownReport};

/// The result of a server's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeReport {
    /// What became of the requests, probes included. Those that were answered with a status of 5xx
    /// or 499, or with a gRPC status that says as much, count as failed, or as cancelled if that
    /// was after the shutdown signalled them to stop.
    pub requests: ShutdownReport,
    /// How many connections were closed before they were done: their clients had not sent all of
    /// their requests, or not received all of their answers.
    pub connections_cut: usize,
    /// How many connections ended by an error of their clients before that: what came was no HTTP,
    /// broke off in the middle of a request, or was a flood that h2 has limits for.
    pub connections_failed: usize,
    /// How many connections over HTTP/2 were sent a GOAWAY, or closed, because their clients reset
    /// more than 500 requests within 10 s, each within a second of its begin.
    pub connections_flooded: usize,
    /// How many connections were closed because their clients took nothing of what was sent for the
    /// [limit](super::Server::send_timeout).
    pub connections_stalled: usize,
    /// How many streams of HTTP/2 were reset for that, while others of their connections were open.
    pub streams_stalled: usize,
}

impl ServeReport {
    /// Whether nothing was left behind or broken off: no request was abandoned, no hook failed and
    /// no connection was cut.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.requests.is_clean() && self.connections_cut == 0
    }
}

impl fmt::Display for ServeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {} failed, {} flooded, {} stalled, and {}; {} cut",
            self.requests,
            counted(self.connections_failed, "connection"),
            self.connections_flooded,
            self.connections_stalled,
            counted(self.streams_stalled, "stream"),
            counted(self.connections_cut, "connection"),
        )
    }
}
