//! Times as numbers of seconds, and instants as text, for JSON.

use std::time::{Duration, SystemTime};

use serde::Serializer;

/// Writes a time as seconds, with a fraction.
pub(crate) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Writes a time as seconds, or null.
#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
pub(crate) fn seconds_or_null<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes an instant as in RFC 3339, in UTC with microseconds: `2026-11-29T15:32:12.041522Z`.
pub(crate) fn rfc3339<S: Serializer>(
    instant: &SystemTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*instant))
}
