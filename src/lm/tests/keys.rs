//! The keys of tenants.

use std::sync::Mutex;

use super::*;

/// An LM that takes down the authorization of each request, and answers with it as an error.
fn repeats(seen: &Arc<Mutex<Vec<String>>>) -> Lm {
    let seen = seen.clone();
    let (lm, _) = lm(move |_, request| {
        let sent = request.headers()["authorization"].to_str();
        let sent = sent.expect("text").to_owned();
        seen.lock().expect("a lock").push(sent.clone());
        let body = http_body_util::Full::from(format!("no such key: {sent}"));
        std::future::ready(Response::builder().status(401).body(body))
    });
    lm
}

fn of_tenant(name: Option<&str>) -> LmRequest {
    let mut request = request(URL, "x", false);
    if let Some(name) = name {
        request.extensions_mut().insert(Tenant::new(name));
    }
    request
}

#[tokio::test]
async fn each_tenant_has_its_key_and_no_answer_shows_it() {
    let seen = Arc::default();
    let lm = repeats(&seen).key_with(|tenant| Some(format!("{KEY}-of-{}", tenant?.name())));
    let lm = connect(&lm);
    for tenant in ["acme", "globex"] {
        let answer = lm.send(of_tenant(Some(tenant))).await.expect("an answer");
        let body = text(answer.into_body()).await.expect("a body");
        assert_eq!(body, "no such key: Bearer [redacted]");
    }
    let seen = seen.lock().expect("a lock").clone();
    let keys = ["acme", "globex"].map(|tenant| format!("Bearer {KEY}-of-{tenant}"));
    assert_eq!(seen, keys);
}

#[tokio::test]
async fn without_a_key_nothing_is_sent() {
    let seen = Arc::default();
    let lm = repeats(&seen).key_with(|tenant| match tenant?.name() {
        "blank" => Some(" ".into()),
        "bad" => Some(format!("{KEY} {KEY}")),
        _ => None,
    });
    let lm = connect(&lm);
    for (tenant, said) in [
        (None, "a call without a tenant"),
        (Some("unknown"), "the tenant `unknown`"),
        (Some("blank"), "the tenant `blank`"),
        (Some("bad"), "the tenant `bad`"),
    ] {
        let error = lm.send(of_tenant(tenant)).await.expect_err("no key");
        assert_eq!(error.kind(), LmFailureKind::Refused);
        assert!(error.message().contains(said), "{error}");
        shows_no_key(&error);
    }
    assert!(seen.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn a_request_that_brings_its_own_key_needs_none() {
    let seen = Arc::default();
    let lm = connect(&repeats(&seen).key_with(|_| None));
    let mut request = of_tenant(None);
    let own = ::http::HeaderValue::from_static("Bearer own");
    request.headers_mut().insert("authorization", own);
    lm.send(request).await.expect("an answer");
    assert_eq!(*seen.lock().expect("a lock"), ["Bearer own"]);
}
