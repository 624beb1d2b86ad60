//! The key of a provider: who may see it, and how it gets into a request.
//!
//! Python holds only a [`PLACEHOLDER`], so a program, its traces and its exceptions cannot give the
//! key away. It is put in at the last moment, inside all layers, which therefore never see it
//! either, and only for the one origin that it was configured for: that of the base URL, if there
//! is one, else that of the provider. A request that would take it elsewhere is refused.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, Uri, header::HOST};

use super::{
    LmRequest,
    placeholder::{self, PLACEHOLDER, filled},
};
use crate::error::{LmFailure, LmFailureKind};

/// Headers that a key travels in; their values are marked as sensitive.
const HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Has no `Debug` show the values of headers that a key travels in.
pub(crate) fn mark_keys(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if HEADERS.contains(&name.as_str()) {
            value.set_sensitive(true);
        }
    }
}

/// A key that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Arc<str>);

impl SecretKey {
    /// The key, without the space around it that a file or a shell may have left there.
    ///
    /// # Errors
    /// If it is empty, or has characters that no header can hold.
    pub(super) fn new(key: &str) -> Result<Self, BadKey> {
        let key = key.trim();
        if key.is_empty() {
            return Err(BadKey::Empty);
        }
        if !key.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
            return Err(BadKey::Unsendable);
        }
        Ok(Self(key.into()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// The key as a URL's query holds it.
    pub(super) fn in_query(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                out.push(byte.into());
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadKey {
    Empty,
    Unsendable,
}

/// Scheme, host and port: what a key is for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Box<str>,
    host: Box<str>,
    port: u16,
}

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
        Some(Self {
            scheme: scheme.into(),
            host: host.to_ascii_lowercase().into(),
            port: uri.port_u16().unwrap_or(usual),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key and where it may go.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    /// `None` for a server that wants none: the placeholder is taken out.
    pub(super) key: Option<SecretKey>,
    /// `None` where the provider's address is not known: then no request has a placeholder.
    pub(super) origin: Option<Origin>,
}

impl Lock {
    /// Puts the key in place of each placeholder.
    ///
    /// # Errors
    /// If the request has a placeholder and goes to another origin than the key is for.
    pub(super) fn put(&self, request: &mut LmRequest) -> Result<(), LmFailure> {
        let in_query = request
            .uri()
            .query()
            .is_some_and(|query| query.contains(PLACEHOLDER));
        let in_headers = request.headers().values().any(holds);
        if in_query || in_headers {
            let to = Origin::of(request.uri());
            if to.is_none() || to != self.origin {
                return Err(self.elsewhere(to));
            }
            // It could name another host behind the same address. The client sets the right one.
            request.headers_mut().remove(HOST);
        }
        if in_headers {
            self.put_in_headers(request.headers_mut())?;
        }
        if in_query {
            let uri = self.put_in_query(request.uri()).ok_or_else(unsendable)?;
            *request.uri_mut() = uri;
        }
        mark_keys(request.headers_mut());
        Ok(())
    }

    fn put_in_headers(&self, headers: &mut HeaderMap) -> Result<(), LmFailure> {
        let Some(key) = &self.key else {
            let keyed = headers.iter().filter(|(_, value)| holds(value));
            let keyed: Vec<_> = keyed.map(|(name, _)| name.clone()).collect();
            for name in keyed {
                headers.remove(name);
            }
            return Ok(());
        };
        for value in headers.values_mut() {
            if holds(value) {
                // It holds the placeholder, which is ASCII; the rest need not be.
                let text = value.to_str().map_err(|_| unsendable())?;
                let text = filled(text, key.expose());
                *value = HeaderValue::try_from(text).map_err(|_| unsendable())?;
                value.set_sensitive(true);
            }
        }
        Ok(())
    }

    fn put_in_query(&self, uri: &Uri) -> Option<Uri> {
        let key = self.key.as_ref().map(SecretKey::in_query);
        let query = filled(uri.query()?, &key.unwrap_or_default());
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(format!("{}?{query}", uri.path()).parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    fn elsewhere(&self, to: Option<Origin>) -> LmFailure {
        let name = |origin: Option<&Origin>, none: &str| {
            origin.map_or_else(|| none.to_owned(), ToString::to_string)
        };
        let of = name(self.origin.as_ref(), "no address that is known");
        let to = name(to.as_ref(), "no absolute URL");
        LmFailure::new(
            LmFailureKind::Refused,
            format!(
                "no LM call was made: its key is for {of}, and the request was to go to {to}; give \
                 the LM that base URL if it is the right one"
            ),
        )
    }
}

fn holds(value: &HeaderValue) -> bool {
    placeholder::position(value.as_bytes()).is_some()
}

fn unsendable() -> LmFailure {
    LmFailure::new(
        LmFailureKind::Refused,
        "no LM call was made: the key cannot be put into the request, whose header or URL has \
         characters that HTTP does not allow",
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const KEY: &str = "a/secret+1";

    fn lock(url: &'static str) -> Lock {
        Lock {
            key: Some(SecretKey::new(KEY).expect("a key")),
            origin: Some(Origin::of(&Uri::from_static(url)).expect("an origin")),
        }
    }

    fn request(url: &str, header: &str, value: &str) -> LmRequest {
        let request = http::Request::post(url).header(header, value);
        request.body(Bytes::new()).expect("a request")
    }

    #[test]
    fn each_dialect_gets_the_key() {
        let openai = lock("https://api.openai.com/v1");
        let bearer = format!("Bearer {PLACEHOLDER}");
        let mut sent = request("https://api.openai.com/v1/x", "authorization", &bearer);
        openai.put(&mut sent).expect("it is for this host");
        assert_eq!(sent.headers()["authorization"], format!("Bearer {KEY}"));

        for header in ["x-api-key", "x-goog-api-key"] {
            let mut sent = request("https://API.openai.com:443/", header, PLACEHOLDER);
            openai.put(&mut sent).expect("it is for this host");
            assert_eq!(sent.headers()[header], KEY);
            assert!(sent.headers()[header].is_sensitive());
            assert!(!format!("{sent:?}").contains(KEY));
        }

        let gemini = lock("http://localhost:1234");
        let url = format!("http://localhost:1234/m:go?alt=sse&key={PLACEHOLDER}");
        let mut sent = request(&url, "x", "y");
        gemini.put(&mut sent).expect("it is for this host");
        assert_eq!(sent.uri().query(), Some("alt=sse&key=a%2Fsecret%2B1"));
    }

    #[test]
    fn a_placeholder_is_replaced_with_the_number_of_its_lm() {
        let openai = lock("https://api.openai.com/v1");
        for (value, sent_as) in [
            (format!("Bearer {PLACEHOLDER}-7"), format!("Bearer {KEY}")),
            (
                format!("Bearer {PLACEHOLDER}--12 x"),
                format!("Bearer {KEY} x"),
            ),
            (format!("{PLACEHOLDER}-x"), format!("{KEY}-x")),
            (
                format!("{PLACEHOLDER}-1,{PLACEHOLDER}"),
                format!("{KEY},{KEY}"),
            ),
        ] {
            let mut sent = request("https://api.openai.com/v1/x", "authorization", &value);
            openai.put(&mut sent).expect("it is for this host");
            assert_eq!(sent.headers()["authorization"], sent_as);
        }
    }

    #[test]
    fn a_key_is_sent_to_its_own_address_alone() {
        let openai = lock("https://api.openai.com/v1");
        for url in [
            "http://api.openai.com/v1",
            "https://api.openai.com:8443/v1",
            "https://api.openai.com.evil.example/v1",
            "https://evil.example/?x=api.openai.com",
            "https://api.openai.com@evil.example/",
            "/v1/chat/completions",
        ] {
            let mut sent = request(url, "authorization", PLACEHOLDER);
            let error = openai.put(&mut sent).expect_err("another origin");
            assert_eq!(error.kind(), LmFailureKind::Refused);
            assert!(!error.to_string().contains(KEY), "{error}");
            assert_eq!(sent.headers()["authorization"], PLACEHOLDER);
        }
        // What needs no key may go anywhere.
        let mut sent = request("https://example.com/", "x", "y");
        openai.put(&mut sent).expect("nothing secret");
    }

    #[test]
    fn a_key_is_not_sent_to_a_host_named_in_a_header() {
        let openai = lock("https://api.openai.com/v1");
        let mut sent = request("https://api.openai.com/v1", "host", "evil.example");
        let placeholder = HeaderValue::from_static(PLACEHOLDER);
        sent.headers_mut().insert("x-api-key", placeholder);
        openai.put(&mut sent).expect("it is for this host");
        assert!(!sent.headers().contains_key("host"));
    }

    #[test]
    fn headers_that_carry_a_key_are_marked_sensitive() {
        let mut sent = request("http://localhost/v1", "authorization", "Bearer sk-own");
        let again = HeaderValue::from_static("Bearer sk-other");
        sent.headers_mut().append("authorization", again);
        mark_keys(sent.headers_mut());
        assert!(!format!("{sent:?}").contains("sk-"));
        assert_eq!(sent.headers()["authorization"], "Bearer sk-own");
    }

    #[test]
    fn without_a_key_the_placeholder_is_removed() {
        let mut local = lock("http://localhost:8000");
        local.key = None;
        let bearer = format!("Bearer {PLACEHOLDER}");
        let mut sent = request("http://localhost:8000/v1", "authorization", &bearer);
        local.put(&mut sent).expect("it is for this host");
        assert!(sent.headers().is_empty());
    }

    #[test]
    fn keys_are_trimmed_checked_and_never_shown() {
        let key = SecretKey::new(" secret\n").expect("a key");
        assert_eq!(key.expose(), "secret");
        assert_eq!(format!("{key} {key:?}"), "[redacted] [redacted]");
        assert_eq!(SecretKey::new(" \n"), Err(BadKey::Empty));
        assert_eq!(SecretKey::new("two words"), Err(BadKey::Unsendable));
    }
}
