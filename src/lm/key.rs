//! [`SecretKey`], a key that is never shown, and [`Origin`], the address that a key is for.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Headers that a key travels in; their values are marked as sensitive.
const HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Characters of a key that are escaped in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Has no `Debug` show the values of headers that a key travels in.
pub(crate) fn mark_keys(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if is_key_header(name) {
            value.set_sensitive(true);
        }
    }
}

/// Whether a key travels in this header.
pub(super) fn is_key_header(name: &HeaderName) -> bool {
    HEADERS.contains(&name.as_str())
}

/// A key that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SecretKey(Arc<str>);

impl SecretKey {
    /// The key, without the space around it that a file or a shell may have left there. `None` if it
    /// is empty, or has characters that no header can hold.
    pub(super) fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        let is_sendable = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        is_sendable.then(|| Self(key.into()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// The key as a URL's query holds it.
    pub(super) fn in_query(&self) -> String {
        utf8_percent_encode(&self.0, ESCAPED).to_string()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Scheme, host and port in lower case: what a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin(String);

impl Origin {
    /// The origin of an absolute http or https URL.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?;
        let host = host.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(usual);
        Some(Self(format!("{scheme}://{host}:{port}")))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let (_, at) = self.0.split_once("://").unwrap_or_default();
        let (host, _) = at.rsplit_once(':').unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_trimmed_checked_and_never_shown() {
        let key = SecretKey::new(" secret\n").expect("a key");
        assert_eq!(key.expose(), "secret");
        assert_eq!(format!("{key:?}"), "[redacted]");
        assert_eq!(SecretKey::new(" \n"), None);
        assert_eq!(SecretKey::new("two words"), None);
    }
}
