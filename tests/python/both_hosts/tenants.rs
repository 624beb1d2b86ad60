//! Tenants that call at the same time: each with its LM and key, and its share of a program.

use tokio::task::JoinSet;
use tower::{Service, ServiceExt};
use tower_dspy::{Classify, ErrorKind, Tenant, testing::scripted_lm::Reply};

use crate::support::{ask, ask_as, eventually, eventually_seen, host, lm, lm_server, open, seen};

#[tokio::test]
async fn concurrent_tenants_get_their_own_answers_and_send_their_own_keys() {
    const CALLS: usize = 40;
    let (host, server) = (host().await, lm_server().await);
    let mut calls = JoinSet::new();
    for tenant in ["tenant-a", "tenant-b"] {
        let lm = lm(tenant).await.key(format!("key-of-{tenant}"));
        let qa = host.load("question -> answer").lm(lm).await.unwrap();
        for n in 0..CALLS {
            let (qa, question) = (qa.clone(), format!("{tenant} asks {n}"));
            calls.spawn(async move {
                let answer = qa.oneshot(ask(&question)).await.unwrap();
                assert_eq!(answer.outputs["answer"], format!("You said: {question}"));
                assert_eq!(answer.lm_calls.len(), 1);
            });
        }
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    for tenant in ["tenant-a", "tenant-b"] {
        let requests = server.requests(tenant);
        assert_eq!(requests.len(), CALLS);
        for request in requests {
            let key = format!("Bearer key-of-{tenant}");
            assert_eq!(request.authorization(), Some(&*key));
            let body = request.body.to_string();
            assert!(body.contains(&format!("{tenant} asks")), "{body}");
        }
    }
}

/// A call that its caller has given up holds the place of its tenant while its clean-up goes on.
#[tokio::test]
async fn a_tenant_has_so_many_calls_in_flight_until_their_work_has_ended() {
    let (host, server) = (host().await, lm_server().await);
    server.script("per-tenant", Reply::hang());
    let program = host.load("cleanup:slow").lm(lm("per-tenant").await);
    let mut program = program.max_in_flight_per_tenant(1).await.unwrap();
    let of = |name| ask_as("per-tenant").with_tenant(Tenant::new(name));

    let first = tokio::spawn(program.ready().await.unwrap().call(of("acme")));
    server
        .wait_for("per-tenant", |all| all.len() == 1)
        .await
        .unwrap();
    let refused = program.clone().oneshot(of("acme")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    let says = refused.to_string();
    assert!(says.contains("1 call of this tenant in flight"), "{says}");

    first.abort();
    eventually_seen(&host, "per-tenant", &["cleaning"]).await;
    let refused = program.clone().oneshot(of("acme")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert_eq!(server.requests("per-tenant").len(), 1);

    // Another tenant has a place of its own.
    let other = tokio::spawn(program.ready().await.unwrap().call(of("tiny")));
    server
        .wait_for("per-tenant", |all| all.len() == 2)
        .await
        .unwrap();
    other.abort();

    open(&host, "per-tenant").await;
    eventually("both permits", || program.in_flight() == 0).await;
    assert!(seen(&host, "per-tenant").await.contains(&"cleaned".into()));
    let again = tokio::spawn(program.ready().await.unwrap().call(of("acme")));
    server
        .wait_for("per-tenant", |all| all.len() == 3)
        .await
        .unwrap();
    again.abort();
}
