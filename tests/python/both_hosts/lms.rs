//! A program with several LMs: chosen by a request, given to a predictor, each with its own key.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{Classify, Deadline, Error, ErrorKind, Lm, Tenant, lm::LmLimits};

use crate::support::{HOUR, ask, call, host, lm, lm_server};

/// A program that awaits its LM, one whose threads wait for theirs, and a sync one.
const PROGRAMS: [&str; 3] = [
    "question -> answer",
    "lm_calls:asks_on_a_thread",
    "shapes:SyncOnly",
];

#[tokio::test]
async fn a_request_chooses_an_lm_and_with_it_the_key() {
    let (host, server) = (host().await, lm_server().await);
    let qa = host.load("question -> answer").lms([
        ("smart", lm("lms-smart").await.key("key-of-smart")),
        ("cheap", lm("lms-cheap").await.key("key-of-cheap")),
    ]);
    let qa = qa.await.unwrap();
    let ask = |name: Option<&str>| match name {
        Some(name) => ask(&format!("for {name}")).with_lm(name),
        None => ask("for the first"),
    };
    for name in [Some("cheap"), None, Some("smart"), Some("cheap")] {
        qa.clone().oneshot(ask(name)).await.unwrap();
    }
    let sent = |model: &str| {
        let requests = server.requests(model);
        let keys = requests.iter().map(|request| {
            let body = request.body.to_string();
            assert!(!body.contains("key-of"), "{body}");
            request.authorization().unwrap_or_default().to_owned()
        });
        keys.collect::<Vec<_>>()
    };
    assert_eq!(sent("lms-smart"), ["Bearer key-of-smart"; 2]);
    assert_eq!(sent("lms-cheap"), ["Bearer key-of-cheap"; 2]);
}

#[tokio::test]
async fn an_unknown_lm_name_is_refused_before_any_lm_call() {
    let (host, server) = (host().await, lm_server().await);
    let load = host.load("question -> answer");
    let load = load.lm(lm("lms-usual").await);
    let named = load.clone().lms([("dear", lm("lms-dear").await)]);
    for (load, said) in [(named, "`dear`"), (load, "without `.lms(..)`")] {
        let qa = load.await.unwrap();
        let error = qa.oneshot(ask("?").with_lm("cheap")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let message = error.to_string();
        assert!(
            message.contains("`cheap`") && message.contains(said),
            "{message}"
        );
    }
    assert!(server.requests("lms-usual").is_empty());
    assert!(server.requests("lms-dear").is_empty());
}

#[tokio::test]
async fn predictors_get_the_lms_named_at_load_and_an_unknown_predictor_fails_the_load() {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    // Its first predictor has an LM of a provider that the host has no key of.
    let load = host.load("own_lm:elsewhere").lms([
        ("one", lm("lms-one").await.key("key-one")),
        ("two", lm("lms-two").await.key("key-two")),
    ]);
    let error = load.clone().await.unwrap_err().to_string();
    assert!(error.contains("the predictor `first`"), "{error}");
    let unknown = load.clone().predictor_lm("third", "two").await;
    let error = unknown.unwrap_err().to_string();
    assert!(
        error.contains("`third`") && error.contains("first"),
        "{error}"
    );
    let unknown = load.clone().predictor_lm("first", "three").await;
    let error = unknown.unwrap_err().to_string();
    assert!(
        error.contains("`three`") && error.contains("two"),
        "{error}"
    );

    let program = load.predictor_lm("first", "two").await.unwrap();
    program.oneshot(ask("?").with_lm("one")).await.unwrap();
    let key = |model: &str| {
        let requests = server.requests(model);
        assert_eq!(requests.len(), 1, "{model}");
        requests[0].authorization().map(str::to_owned)
    };
    assert_eq!(key("lms-two").as_deref(), Some("Bearer key-two"));
    assert_eq!(key("lms-one").as_deref(), Some("Bearer key-one"));
}

#[tokio::test]
async fn each_tenant_of_a_program_pays_with_its_own_key() {
    let (host, server) = (host().await, lm_server().await);
    let lm = Lm::new("openai/lms-tenants")
        .base_url(server.base_url())
        .key_with(|tenant| match tenant?.name() {
            "nobody" => None,
            name => Some(format!("key-of-{name}")),
        });
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    for tenant in ["acme", "globex"] {
        let request = ask("?").with_tenant(Tenant::new(tenant));
        qa.clone().oneshot(request).await.unwrap();
    }
    let request = ask("?").with_tenant(Tenant::new("nobody"));
    let error = qa.oneshot(request).await.unwrap_err();
    assert!(matches!(error, Error::Lm(_)), "{error:?}");
    assert!(error.to_string().contains("the tenant `nobody`"), "{error}");
    let requests = server.requests("lms-tenants");
    let keys: Vec<_> = requests.iter().map(|r| r.authorization()).collect();
    assert_eq!(
        keys,
        [Some("Bearer key-of-acme"), Some("Bearer key-of-globex")]
    );
}

#[tokio::test]
async fn no_lm_call_is_sent_without_time_for_it() {
    let (host, server) = (host().await, lm_server().await);
    let limits = LmLimits::new().with_reserve(HOUR);
    for (n, program) in PROGRAMS.into_iter().enumerate() {
        let model = format!("lms-too-late-{n}");
        let lm = lm(&model).await.limits(limits);
        let qa = host.load(program).lm(lm).await.unwrap();
        let request = ask("?").with_deadline(Deadline::within(HOUR / 2));
        let error = qa.clone().oneshot(request).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("no LM call was made"), "{message}");
        assert!(server.requests(&model).is_empty());

        let request = ask("?").with_deadline(Deadline::within(2 * HOUR));
        qa.oneshot(request).await.unwrap();
        assert_eq!(server.requests(&model).len(), 1);
    }
}

#[tokio::test]
async fn a_panic_in_the_lms_stack_is_an_error_of_the_call() {
    let host = host().await;
    for program in PROGRAMS {
        let lm = lm("lms-panics").await;
        let lm = lm.key_with(|_| panic!("as the test asked it to"));
        let qa = host.load(program).lm(lm).await.unwrap();
        let error = qa.oneshot(ask("?")).await.unwrap_err();
        assert!(matches!(error, Error::Lm(_)), "{error:?}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}
