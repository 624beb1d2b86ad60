//! [`SecretKey`], a key that is never shown, and [`Origin`], the address that a key is for.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Headers that a key travels in; their values are marked as sensitive.
const HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// The endings of names that are on private networks alone.
const ENDS_NEARBY: [&str; 9] = [
    "corp",
    "home",
    "internal",
    "intranet",
    "lan",
    "local",
    "localhost",
    "svc",
    "test",
];

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

/// What is wrong with a key that is none: see [`SecretKey::new`].
pub(super) fn problem_of(key: &str) -> &'static str {
    let key = key.trim();
    if key.is_empty() {
        "it is empty"
    } else if is_quoted(key) {
        "it has quotes around it, which a file of variables or a shell may have left there"
    } else if key.contains(['\n', '\r']) {
        "it has a line break within"
    } else if key.contains(char::is_whitespace) {
        "it has a space within"
    } else {
        "it has characters other than printable ASCII"
    }
}

fn is_quoted(key: &str) -> bool {
    key.len() > 1
        && ['"', '\'']
            .iter()
            .any(|quote| key.starts_with(*quote) && key.ends_with(*quote))
}

/// A key that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SecretKey(Arc<str>);

impl SecretKey {
    /// The key, without the space around it that a file or a shell may have left there. `None` if it
    /// is empty, is in quotes, or has characters that no header can hold.
    pub(super) fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        let is_sendable =
            !key.is_empty() && !is_quoted(key) && key.bytes().all(|byte| byte.is_ascii_graphic());
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

    fn host(&self) -> &str {
        let (_, at) = self.0.split_once("://").unwrap_or_default();
        let (host, _) = at.rsplit_once(':').unwrap_or_default();
        host.trim_matches(['[', ']'])
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let address = self.host().parse::<IpAddr>();
        self.host() == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Whether what is sent there is not encrypted.
    pub(super) fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }

    /// Whether it is on this machine, or looks like one on a private network: an address of one, a
    /// name without a dot, or with an ending that the internet does not have.
    pub(super) fn is_nearby(&self) -> bool {
        match self.host().parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                address.is_loopback()
                    || address.is_private()
                    || address.is_link_local()
                    || matches!(address.octets(), [100, 64..=127, ..])
            }
            Ok(IpAddr::V6(address)) => {
                address.is_loopback()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            }
            Err(_) => match self.host().rsplit_once('.') {
                Some((_, end)) => ENDS_NEARBY.contains(&end),
                None => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_on_another_network_is_not_nearby() {
        for (url, nearby) in [
            ("http://localhost/v1", true),
            ("http://vllm:8000/v1", true),
            ("http://vllm.models.svc/v1", true),
            ("http://vllm.models.svc.cluster.local/v1", true),
            ("http://10.1.2.3/v1", true),
            ("http://[fd00::1]:8000/v1", true),
            ("http://api.example.com/v1", false),
            ("http://8.8.8.8/v1", false),
            ("http://[2001:4860::1]/v1", false),
        ] {
            let origin = url.parse().ok().and_then(|uri| Origin::of(&uri));
            let origin = origin.expect("an origin");
            assert!(origin.is_plain());
            assert_eq!(origin.is_nearby(), nearby, "{url}");
        }
    }

    #[test]
    fn keys_are_trimmed_checked_and_never_shown() {
        let key = SecretKey::new(" secret\n").expect("a key");
        assert_eq!(key.expose(), "secret");
        assert_eq!(format!("{key:?}"), "[redacted]");
        assert_eq!(SecretKey::new(" \n"), None);
        for (key, problem) in [
            (" \n", "empty"),
            ("two words", "a space within"),
            ("sk-\nx", "a line break within"),
            ("\"sk-x\"", "quotes"),
            ("'sk-x'", "quotes"),
            ("schlüssel", "other than printable ASCII"),
        ] {
            assert_eq!(SecretKey::new(key), None);
            assert!(problem_of(key).contains(problem), "{key:?}");
        }
    }
}
