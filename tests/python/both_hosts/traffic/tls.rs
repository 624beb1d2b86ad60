//! An LM behind a certificate that only a client of the user's own trusts.

use std::time::Duration;

use tower::ServiceExt;
use tower_dspy::{
    Classify, Deadline, Error, ErrorKind, Lm,
    lm::LmClient,
    testing::scripted_lm::{Outcome, Reply, ScriptedLm},
};

use crate::support::{ask, host};

#[tokio::test]
async fn a_custom_root_certificate_is_configured_on_the_http_client() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (own.cert.der(), own.signing_key.serialize_der());
    let server = ScriptedLm::start_tls(certificate, &key);
    let (host, server) = (host().await, server.await.expect("an LM server"));
    let lm = Lm::new("openai/private").base_url(server.base_url());
    let lm = lm.key("test-key");

    // By default the system's roots are trusted, and this is none of them.
    let load = host.load("question -> answer").lm(lm.clone());
    let error = load.await.unwrap().oneshot(ask("?")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Lm(failure) if failure.status().is_none()),
        "{error}"
    );
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(server.requests("private").is_empty());

    let root = reqwest::Certificate::from_der(certificate).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_merge([root]).build();
    let client = LmClient::from_reqwest(client.expect("a client"));
    let load = host.load("question -> answer").lm(lm.http(client));
    let qa = load.await.unwrap();
    server.script("private", [Reply::answer("in private"), Reply::hang()]);
    let answer = qa.clone().oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], "in private");

    // On a busy machine a deadline may pass before the request is sent.
    for limit in [1, 4, 16].map(Duration::from_secs) {
        let request = ask("?").with_deadline(Deadline::within(limit));
        let error = qa.clone().oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        if server.requests("private").len() > 1 {
            break;
        }
    }
    let seen = server.wait_for("private", |all| {
        all.len() > 1 && all.iter().all(|request| request.ended().is_some())
    });
    let outcomes: Vec<_> = seen.await.unwrap().iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes[0], Outcome::Answered);
    let gone = |outcome: &Outcome| *outcome == Outcome::ClientGone;
    assert!(outcomes[1..].iter().all(gone), "{outcomes:?}");
}
