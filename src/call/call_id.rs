//! The id of a call.

use std::{
    fmt,
    num::NonZeroU64,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderName, HeaderValue};

/// Names a call within this process: in spans, logs and errors, on the Python side, in the
/// [tracker](crate::Tracker), and in responses as the header [`x-call-id`](Self::HEADER).
///
/// It is a number from 1, which ascends. Another process, and this one once it is started again, gives
/// the same numbers to other calls: name the process as well where logs of several meet.
///
/// ```
/// use tower_dspy::CallId;
///
/// let id: CallId = "8123".parse().unwrap(); // of a log line, a header or a path
/// assert_eq!((id.get(), id.to_string().as_str()), (8123, "8123"));
/// assert!("0".parse::<CallId>().is_err());
/// ```
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize, serde::Serialize,
)]
pub struct CallId(NonZeroU64);

/// A text that is not the id of a call: [`CallId`] is a number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a call is a number from 1")]
#[non_exhaustive]
pub struct InvalidCallId;

impl CallId {
    /// The header of a response that has the id of its call, and the key of gRPC's metadata: of all
    /// requests that pass an [`InboundLayer`](crate::InboundLayer), and of all that a handler of this
    /// crate answers. In requests it is not read.
    pub const HEADER: HeaderName = HeaderName::from_static("x-call-id");

    /// The value of [`HEADER`](Self::HEADER).
    pub(crate) fn header_value(self) -> HeaderValue {
        self.get().into()
    }

    /// The next free id; they ascend.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MAX))
    }

    /// The id as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for CallId {
    type Err = InvalidCallId;

    fn from_str(text: &str) -> Result<Self, InvalidCallId> {
        // A number of Rust's may begin with a plus.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let id = text.parse().ok().filter(|_| digits);
        id.map(Self).ok_or(InvalidCallId)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_what_it_displays_and_from_nothing_else() {
        let id = CallId::next();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "0", "+1", "-1", " 1", "1x", "18446744073709551616"] {
            assert_eq!(text.parse::<CallId>(), Err(InvalidCallId), "{text:?}");
        }
    }
}
