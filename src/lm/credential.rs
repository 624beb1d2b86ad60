//! [`Credential`]: a key, the address that it may be sent to, and how it gets into a request.
//!
//! Python holds only a [`PLACEHOLDER`](super::PLACEHOLDER), so a program, its traces and its
//! exceptions cannot give the key away. It is put in at the last moment, inside all layers, which
//! therefore never see it either, and only for the one origin that it was configured for: that of
//! the base URL, if there is one, else that of the provider. A request that would take it elsewhere
//! is refused.

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{AUTHORIZATION, HOST},
};
use tower::BoxError;

use super::{
    LmRequest, PLACEHOLDER,
    key::{Origin, SecretKey, mark_keys},
    placeholder::{self, filled},
    redact::Redact,
};
use crate::error::LmFailure;

/// A key and where it may go.
#[derive(Clone, Debug, Default)]
pub(super) struct Credential {
    /// `None` for a server that wants none: the placeholder is taken out.
    pub(super) key: Option<SecretKey>,
    /// `None` where the provider's address is not known: then no request has a placeholder.
    pub(super) origin: Option<Origin>,
    /// Whether the key is an access token, which is sent as a bearer token.
    pub(super) is_token: bool,
}

impl Credential {
    /// Puts the key in place of each placeholder.
    ///
    /// # Errors
    /// If the request has a placeholder and goes to another origin than the key is for.
    pub(super) fn put(&self, request: &mut LmRequest) -> Result<(), LmFailure> {
        if placeholder::is_in(request) {
            let to = Origin::of(request.uri());
            if to.is_none() || to != self.origin {
                return Err(self.elsewhere(to));
            }
            // It could name another host behind the same address. The client sets the right one.
            request.headers_mut().remove(HOST);
            self.put_in_headers(request.headers_mut())?;
            if let Some(query) = request.uri().query() {
                let uri = self.put_in_query(request.uri(), query);
                *request.uri_mut() = uri.ok_or_else(unsendable)?;
            }
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
        if self.is_token {
            make_bearer(headers);
        }
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

    fn put_in_query(&self, uri: &Uri, query: &str) -> Option<Uri> {
        let key = self.key.as_ref().map(SecretKey::in_query);
        let query = filled(query, &key.unwrap_or_default());
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(format!("{}?{query}", uri.path()).parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    fn elsewhere(&self, to: Option<Origin>) -> LmFailure {
        let of = self.origin.as_ref();
        let of = of.map_or("no address that is known", Origin::as_str);
        let to = to.as_ref().map_or("no absolute URL", Origin::as_str);
        LmFailure::refused(format!(
            "no LM call was made: its key is for {of}, and the request was to go to {to}; give the \
             LM that base URL if it is the right one"
        ))
    }

    /// What keeps the key out of messages.
    pub(super) const fn redact(&self) -> Redact<'_> {
        Redact::new(self.key.as_ref())
    }

    /// The failure that an error of the client or of a layer is, of a request that went `to` there.
    pub(super) fn failure(&self, error: &BoxError, to: Option<&Origin>) -> LmFailure {
        LmFailure::found(&**error).unwrap_or_else(|| {
            let said = self.redact().error(&**error);
            let to = to.map_or("no address", Origin::as_str);
            let message = format!("the LM call to {to} failed: {said}");
            LmFailure::saying(&**error, message.into())
        })
    }
}

/// Moves a placeholder from a provider's header for a key to the header for a bearer token.
fn make_bearer(headers: &mut HeaderMap) {
    let keyed = headers.iter().find(|(_, value)| holds(value));
    let Some(name) = keyed.map(|(name, _)| name.clone()) else {
        return;
    };
    headers.remove(name);
    if let Ok(bearer) = HeaderValue::try_from(format!("Bearer {PLACEHOLDER}")) {
        headers.insert(AUTHORIZATION, bearer);
    }
}

fn holds(value: &HeaderValue) -> bool {
    placeholder::position(value.as_bytes()).is_some()
}

fn unsendable() -> LmFailure {
    LmFailure::refused(
        "no LM call was made: the key cannot be put into the request, whose header or URL has \
         characters that HTTP does not allow",
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::error::LmFailureKind;

    const KEY: &str = "a/secret+1";

    fn credential(url: &'static str) -> Credential {
        Credential {
            key: Some(SecretKey::new(KEY).expect("a key")),
            origin: Some(Origin::of(&Uri::from_static(url)).expect("an origin")),
            is_token: false,
        }
    }

    fn request(url: &str, header: &str, value: &str) -> LmRequest {
        let request = http::Request::post(url).header(header, value);
        request.body(Bytes::new()).expect("a request")
    }

    #[test]
    fn each_dialect_gets_the_key() {
        let openai = credential("https://api.openai.com/v1");
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

        let gemini = credential("http://localhost:1234");
        let url = format!("http://localhost:1234/m:go?alt=sse&key={PLACEHOLDER}");
        let mut sent = request(&url, "x", "y");
        gemini.put(&mut sent).expect("it is for this host");
        assert_eq!(sent.uri().query(), Some("alt=sse&key=a%2Fsecret%2B1"));
    }

    #[test]
    fn a_placeholder_is_replaced_with_the_number_of_its_lm() {
        let openai = credential("https://api.openai.com/v1");
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
    fn a_token_is_sent_as_a_bearer_in_place_of_the_providers_header() {
        let mut azure = credential("https://mine.openai.azure.com");
        azure.is_token = true;
        let bearer = format!("Bearer {PLACEHOLDER}-3");
        for (name, value) in [("api-key", PLACEHOLDER), ("authorization", &bearer)] {
            let mut sent = request("https://mine.openai.azure.com/openai/v1", name, value);
            azure.put(&mut sent).expect("it is for this host");
            assert_eq!(sent.headers()["authorization"], format!("Bearer {KEY}"));
            assert!(!sent.headers().contains_key("api-key"));
        }
    }

    #[test]
    fn a_key_is_sent_to_its_own_address_alone() {
        let openai = credential("https://api.openai.com/v1");
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
        let openai = credential("https://api.openai.com/v1");
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
        let mut local = credential("http://localhost:8000");
        local.key = None;
        let bearer = format!("Bearer {PLACEHOLDER}");
        let mut sent = request("http://localhost:8000/v1", "authorization", &bearer);
        local.put(&mut sent).expect("it is for this host");
        assert!(sent.headers().is_empty());
    }
}
