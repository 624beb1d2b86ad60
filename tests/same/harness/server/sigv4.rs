//! AWS's request signature, version 4, computed anew from fixed test credentials.

use std::fmt::Write;

use aws_lc_rs::{digest, hmac};
use axum::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// The secret of the corpus's AWS credentials.
const SECRET: &str = "same-secret-access-key";

/// What a segment of a canonical path leaves as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Whose signature a request carries and whether it is right; `None` if it carries none.
pub(super) fn check(head: &Parts, body: &[u8]) -> Option<Value> {
    let header = |name: &str| head.headers.get(name)?.to_str().ok();
    let signature = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
    let part = |name: &str| {
        let parts = signature.split(',').map(str::trim);
        parts.filter_map(|part| part.strip_prefix(name)).next()
    };
    let credential = part("Credential=")?;
    let mut scope = credential.split('/');
    let key = scope.next()?;
    let [date, region, service] = [scope.next()?, scope.next()?, scope.next()?];
    let signed = part("SignedHeaders=")?;

    let mut canonical = format!(
        "{}\n{}\n{}\n",
        head.method,
        canonical_path(head.uri.path()),
        head.uri.query().unwrap_or_default()
    );
    for name in signed.split(';') {
        let _ = writeln!(canonical, "{name}:{}", header(name)?.trim());
    }
    let payload = hex(digest::digest(&digest::SHA256, body).as_ref());
    let _ = write!(canonical, "\n{signed}\n{payload}");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{date}/{region}/{service}/aws4_request\n{}",
        header("x-amz-date")?,
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    );
    let mut secret = format!("AWS4{SECRET}").into_bytes();
    for step in [date, region, service, "aws4_request"] {
        secret = hmac(&secret, step);
    }
    Some(json!({
        "key": key,
        "region": region,
        "service": service,
        "signed_headers": signed,
        "valid": part("Signature=")? == hex(&hmac(&secret, &to_sign)),
    }))
}

/// The path with each segment encoded once more, as all services but S3 want it.
fn canonical_path(path: &str) -> String {
    let segments = path.split('/');
    let segments: Vec<_> = segments
        .map(|segment| utf8_percent_encode(segment, SEGMENT).to_string())
        .collect();
    segments.join("/")
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
