//! Who may look at the page, and who may cancel a call by it.

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, Uri, header, uri::Authority};
use subtle::ConstantTimeEq;

/// The secret that is asked for, as the password of HTTP Basic authentication.
#[derive(Clone)]
pub(super) struct PageToken(Arc<str>);

impl PageToken {
    pub(super) fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// Whether the request has it, for any user. No request has an empty one.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let password = password(headers).filter(|_| !self.0.is_empty());
        password.is_some_and(|password| is_equal(&password, self.0.as_bytes()))
    }
}

impl fmt::Debug for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageToken(..)")
    }
}

/// The password of HTTP Basic authentication (RFC 7617).
fn password(headers: &HeaderMap) -> Option<Vec<u8>> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    Some(credentials[colon + 1..].to_vec())
}

/// Compares in a time that depends on the lengths alone.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// The token in the forms of one page: a form of another site does not have it.
#[derive(Clone)]
pub(super) struct FormToken(Arc<str>);

impl FormToken {
    /// A random one; `None` if the system gives no random bytes: then no form is accepted.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self(digits.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is(&self, token: &str) -> bool {
        is_equal(self.0.as_bytes(), token.as_bytes())
    }
}

impl fmt::Debug for FormToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormToken(..)")
    }
}

/// Whether a form may come from this page: by `Sec-Fetch-Site`, which browsers send to trustworthy
/// addresses, else by `Origin`. Clients that are no browsers send neither.
pub(super) fn is_same_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| Some(headers.get(name)?.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = text("origin") else {
        return true;
    };
    let host = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    let own = text("host").or_else(|| uri.authority().map(Authority::as_str));
    host.is_some() && host == own
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value of a header");
            (http::HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    fn is_let_in(credentials: &str) -> bool {
        let credentials = BASE64_STANDARD.encode(credentials);
        let headers = headers(&[("authorization", &format!("Basic {credentials}"))]);
        PageToken::new("se:cret").is_in(&headers)
    }

    #[test]
    fn the_token_is_the_password_of_any_user() {
        assert!(is_let_in(":se:cret") && is_let_in("somebody:se:cret"));
        for wrong in ["", "se:cret", "a:", "a:se:cre", "a:se:crets", "a:SE:CRET"] {
            assert!(!is_let_in(wrong), "{wrong}");
        }
        let token = PageToken::new("se:cret");
        assert!(!token.is_in(&HeaderMap::new()));
        for value in ["Basic", "Basic ???", "Bearer se:cret"] {
            assert!(
                !token.is_in(&headers(&[("authorization", value)])),
                "{value}"
            );
        }
    }

    #[test]
    fn an_empty_secret_lets_nobody_in() {
        let credentials = BASE64_STANDARD.encode("a:");
        let headers = headers(&[("authorization", &format!("Basic {credentials}"))]);
        assert!(!PageToken::new("").is_in(&headers));
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let host = ("host", "a.example:8080");
        let with = |more: &[(&'static str, &str)]| {
            let all: Vec<_> = more.iter().copied().chain([host]).collect();
            is_same_origin(&headers(&all), &Uri::from_static("/8/cancel"))
        };
        assert!(with(&[]));
        assert!(with(&[("origin", "http://a.example:8080")]));
        assert!(with(&[
            ("origin", "https://of.a.proxy"),
            ("sec-fetch-site", "same-origin")
        ]));
        for origin in [
            "null",
            "http://b.example",
            "http://a.example",
            "a.example:8080",
        ] {
            assert!(!with(&[("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!with(&[("sec-fetch-site", site)]), "{site}");
        }
        // HTTP/2 has no `host`.
        let uri = Uri::from_static("http://a.example/8/cancel");
        let from = |origin| is_same_origin(&headers(&[("origin", origin)]), &uri);
        assert!(from("http://a.example") && !from("http://b.example"));
    }

    #[test]
    fn each_form_token_is_another_one() {
        let [one, other] = [(); 2].map(|()| FormToken::random().expect("random bytes"));
        assert!(one.is(one.as_str()) && !one.is(other.as_str()) && !one.is(""));
        assert_eq!(one.as_str().len(), 32);
    }
}
