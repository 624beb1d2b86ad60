//! The placeholder that stands for a key in a program's requests.

use http::HeaderValue;

use super::LmRequest;

/// What stands where the key is to be, in a header's value or in the URL's query. What programs send
/// has the number of the LM behind it, as in `TOWER-DSPY-KEY-7`.
pub const PLACEHOLDER: &str = "TOWER-DSPY-KEY";

/// The placeholder that a request has.
#[cfg(feature = "_host")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// Of the LM with this number.
    Of(i64),
    /// Of any LM at the address that the request goes to.
    Any,
}

#[cfg(feature = "_host")]
impl Placeholder {
    /// The first one in the headers or in the query of `request`.
    pub(crate) fn in_request(request: &LmRequest) -> Option<Self> {
        places(request).find_map(|text| {
            let number = number(&text[position(text)? + PLACEHOLDER.len()..]);
            let number = str::from_utf8(number).ok()?.get(1..).map(str::parse);
            Some(number.and_then(Result::ok).map_or(Self::Any, Self::Of))
        })
    }
}

/// Whether `request` has a placeholder, so that a key is to be put in.
pub(super) fn is_in(request: &LmRequest) -> bool {
    places(request).any(|text| position(text).is_some())
}

/// Where placeholders are looked for.
fn places(request: &LmRequest) -> impl Iterator<Item = &[u8]> {
    let headers = request.headers().values().map(HeaderValue::as_bytes);
    headers.chain(request.uri().query().map(str::as_bytes))
}

pub(super) fn position(text: &[u8]) -> Option<usize> {
    let mut windows = text.windows(PLACEHOLDER.len());
    windows.position(|window| window == PLACEHOLDER.as_bytes())
}

/// The hyphen and the number with which `text`, which follows on a placeholder, goes on; empty if
/// it does not.
fn number(text: &[u8]) -> &[u8] {
    let [b'-', rest @ ..] = text else {
        return &[];
    };
    let sign = usize::from(rest.starts_with(b"-"));
    let digits = rest[sign..].iter().take_while(|byte| byte.is_ascii_digit());
    match digits.count() {
        0 => &[],
        digits => &text[..1 + sign + digits],
    }
}

/// `text` with `key` in the place of each placeholder.
pub(super) fn filled(text: &str, key: &str) -> String {
    let mut parts = text.split(PLACEHOLDER);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        filled.push_str(key);
        filled.push_str(&part[number(part.as_bytes()).len()..]);
    }
    filled
}

#[cfg(all(test, feature = "_host"))]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_placeholder_of_a_request_names_its_lm() {
        let of = |url: &str, header: &str| Placeholder::in_request(&request(url, header));
        let plain = "http://localhost/v1";
        assert_eq!(of(plain, "a key"), None);
        assert_eq!(of(plain, PLACEHOLDER), Some(Placeholder::Any));
        assert_eq!(
            of(plain, &format!("{PLACEHOLDER}-x")),
            Some(Placeholder::Any)
        );
        assert_eq!(
            of(plain, &format!("Bearer {PLACEHOLDER}-71")),
            Some(Placeholder::Of(71))
        );
        assert_eq!(
            of(plain, &format!("{PLACEHOLDER}--3")),
            Some(Placeholder::Of(-3))
        );
        let url = format!("{plain}?key={PLACEHOLDER}-4&alt=sse");
        assert_eq!(of(&url, "x"), Some(Placeholder::Of(4)));
    }

    fn request(url: &str, header: &str) -> LmRequest {
        let request = http::Request::post(url).header("x-api-key", header);
        request.body(Bytes::new()).expect("a request")
    }
}
