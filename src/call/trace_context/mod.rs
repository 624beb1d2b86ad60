//! The trace that a call is part of, as W3C Trace Context writes it in headers.

#[cfg(feature = "_host")]
use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Members of a `tracestate`, and its characters; what is longer is cut.
const MOST_MEMBERS: usize = 32;
const MOST_STATE: usize = 512;
/// Members that are longer go first when a `tracestate` is cut.
const LONG_MEMBER: usize = 128;

/// The place of a call in a trace: the ids of the trace and of the span that the call is made in, by
/// [W3C Trace Context](https://www.w3.org/TR/trace-context-2/).
///
/// [`InboundLayer`](crate::InboundLayer) reads it from the headers `traceparent` and `tracestate` into
/// [`CallContext::trace`](crate::CallContext::trace);
/// [`OutboundLayer`](crate::OutboundLayer) writes it. It needs no OpenTelemetry; with the feature `otel`
/// the spans of a call are part of the trace, see [`telemetry`](crate::telemetry).
///
/// ```
/// use tower_dspy::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace = TraceContext::parse(header, "vendor=opaque").unwrap();
/// assert_eq!(trace.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(trace.is_sampled());
/// assert_eq!(trace.traceparent(), header);
/// // An id of zeros is none.
/// assert!(TraceContext::parse(&header.replace("00f067aa0ba902b7", "0000000000000000"), "").is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    state: Box<str>,
}

impl TraceContext {
    /// The header with the ids.
    pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    /// The header with what the systems of a trace tell each other.
    pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

    /// The flag of a trace that is recorded.
    const SAMPLED: u8 = 0x01;
    /// The flags that are defined; others are not passed on. The second says that the id is random.
    const FLAGS: u8 = 0x03;

    /// Reads the values of the two headers; `None` for a `traceparent` that is not valid. A
    /// `tracestate` that is not valid is left out. Of a `tracestate` of more than 512 characters,
    /// members of more than 128 are left out, then the last ones.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let version = hex(bytes.get(..2)?)?;
        // A later version may add fields, after another dash.
        let rest = bytes.get(55..)?;
        let is_readable = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => matches!(rest.first(), None | Some(b'-')),
        };
        let dashes = [2, 35, 52].map(|at| bytes.get(at) == Some(&b'-'));
        let trace_id = hex(bytes.get(3..35)?)?;
        let parent_id = u64::try_from(hex(bytes.get(36..52)?)?).ok()?;
        let flags = u8::try_from(hex(bytes.get(53..55)?)?).ok()? & Self::FLAGS;
        if !is_readable || dashes != [true; 3] || trace_id == 0 || parent_id == 0 {
            return None;
        }
        Some(Self {
            trace_id,
            parent_id,
            flags,
            state: state(tracestate).unwrap_or_default().into(),
        })
    }

    /// Reads the headers. `None` if there is no `traceparent`, an invalid one, or more than one.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(Self::TRACEPARENT).iter();
        let parent = parents.next()?.to_str().ok()?;
        if parents.next().is_some() {
            return None;
        }
        let states = headers.get_all(Self::TRACESTATE).iter();
        let states: Result<Vec<_>, _> = states.map(HeaderValue::to_str).collect();
        Self::parse(parent, &states.unwrap_or_default().join(","))
    }

    /// Takes the two headers out, and reads them.
    #[cfg(feature = "_host")]
    pub(crate) fn take_from(headers: &mut HeaderMap) -> Option<Self> {
        let trace = Self::from_headers(headers);
        headers.remove(Self::TRACEPARENT);
        headers.remove(Self::TRACESTATE);
        trace
    }

    /// The headers by their names, as Python's propagator reads and writes them.
    #[cfg(feature = "_host")]
    pub(crate) fn to_map(&self) -> BTreeMap<String, String> {
        let state = (!self.state.is_empty()).then(|| ("tracestate".into(), self.state.to_string()));
        let parent = ("traceparent".into(), self.traceparent());
        [parent].into_iter().chain(state).collect()
    }

    /// Reads the headers by their names.
    #[cfg(feature = "_host")]
    pub(crate) fn from_map(headers: &BTreeMap<String, String>) -> Option<Self> {
        let state = headers.get("tracestate").map_or("", String::as_str);
        Self::parse(headers.get("traceparent")?, state)
    }

    /// Writes the two headers, in place of those that are there.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(parent) = HeaderValue::try_from(self.traceparent()) {
            headers.insert(Self::TRACEPARENT, parent);
        }
        match HeaderValue::try_from(&*self.state) {
            Ok(state) if !state.is_empty() => headers.insert(Self::TRACESTATE, state),
            _ => headers.remove(Self::TRACESTATE),
        };
    }

    /// The context of these ids, of which none is zero.
    #[cfg(feature = "otel")]
    pub(crate) fn new(trace_id: u128, parent_id: u64, flags: u8, tracestate: &str) -> Self {
        Self {
            trace_id,
            parent_id,
            flags: flags & Self::FLAGS,
            state: state(tracestate).unwrap_or_default().into(),
        }
    }

    /// The id of the trace; shown as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        Hex {
            number: self.trace_id,
            digits: 32,
        }
    }

    /// The id of the span that the call is made in; shown as 16 hexadecimal digits.
    #[must_use]
    pub fn parent_id(&self) -> impl fmt::Display + use<> {
        Hex {
            number: self.parent_id.into(),
            digits: 16,
        }
    }

    /// The two ids and the flags, as numbers.
    #[cfg(feature = "otel")]
    pub(crate) const fn parts(&self) -> (u128, u64, u8) {
        (self.trace_id, self.parent_id, self.flags)
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// The value of the header `traceparent`, in version 00.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let Self { flags, .. } = self;
        format!("00-{}-{}-{flags:02x}", self.trace_id(), self.parent_id())
    }

    /// The value of the header `tracestate`; empty if there is none.
    #[must_use]
    pub fn tracestate(&self) -> &str {
        &self.state
    }
}

/// Shows the ids alone: a `tracestate` is for the systems that it names.
impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({})", self.traceparent())
    }
}

struct Hex {
    number: u128,
    digits: usize,
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0digits$x}", self.number, digits = self.digits)
    }
}

/// The number of up to 32 lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// A `tracestate` without empty members, and cut; `None` if it is not valid.
fn state(tracestate: &str) -> Option<String> {
    let members = tracestate
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']));
    let mut members: Vec<_> = members.filter(|member| !member.is_empty()).collect();
    if members.len() > MOST_MEMBERS {
        return None;
    }
    let mut keys = Vec::with_capacity(members.len());
    for member in &members {
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || keys.contains(&key) {
            return None;
        }
        keys.push(key);
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    if length(&members) > MOST_STATE + 1 {
        members.retain(|member| member.len() <= LONG_MEMBER);
    }
    while length(&members) > MOST_STATE + 1 {
        members.pop();
    }
    Some(members.join(","))
}

fn is_key(key: &str) -> bool {
    let is_part = |part: &str, most: usize, begins: fn(u8) -> bool| {
        part.len() <= most
            && part.bytes().next().is_some_and(begins)
            && part
                .bytes()
                .all(|byte| is_letter_or_digit(byte) || b"_-*/".contains(&byte))
    };
    match key.split_once('@') {
        None => is_part(key, 256, is_letter_or_digit),
        Some((tenant, system)) => {
            is_part(tenant, 241, is_letter_or_digit)
                && is_part(system, 14, |byte| byte.is_ascii_lowercase())
        }
    }
}

const fn is_letter_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_value(value: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && !b",=".contains(&byte);
    (1..=256).contains(&value.len()) && value.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests;
