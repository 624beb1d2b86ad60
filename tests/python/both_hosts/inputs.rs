//! Invalid inputs, which are refused before any LM call.

use serde_json::{Value, json};
use tower::ServiceExt;
use tower_dspy::{Classify, DspyService, Error, ErrorKind, InvalidInput, PredictRequest};

use crate::support::{host, lm_server, load, question};

async fn refused(program: &DspyService, inputs: Value) -> InvalidInput {
    let shown = format!("{inputs:.200}");
    let answer = program.clone().oneshot(PredictRequest::new(inputs)).await;
    assert_eq!(program.in_flight(), 0);
    match answer {
        Err(Error::InvalidInput(error)) => error,
        Err(other) => panic!("{shown}: {other:?}: {other}"),
        Ok(_) => panic!("{shown} was accepted"),
    }
}

/// Inputs that fit, with `field` replaced.
fn rich(field: &str, value: Value) -> Value {
    let mut inputs = json!({
        "question": "?", "passages": ["a"], "mood": "calm", "limit": 3, "ratio": 0.5, "flag": true,
        "note": null, "person": {"name": "Ada", "home": {"street": "High Street", "number": 1}},
    });
    inputs[field] = value;
    inputs
}

#[tokio::test]
async fn inputs_that_do_not_fit_reach_no_lm() {
    let (host, model) = (host().await, "misfits");
    let program = load(&host, "inputs:Rich", model).await;
    for (field, value) in [
        ("question", json!(5)),
        ("question", json!(null)),
        ("passages", json!("not a list")),
        ("passages", json!(["a", 1])),
        ("passages", json!([["nested"]])),
        ("mood", json!("angry")),
        ("mood", json!(null)),
        ("person", json!("Ada")),
        ("person", json!({"name": "Ada"})),
        (
            "person",
            json!({"name": "Ada", "home": {"street": "High Street", "number": "one"}}),
        ),
        ("limit", json!(1.5)),
        ("limit", json!("1")),
        ("limit", json!(true)),
        ("ratio", json!("half")),
        ("flag", json!(1)),
        ("note", json!(1)),
        ("no_such_field", json!(1)),
        ("max_iters", json!(1)),
    ] {
        let error = refused(&program, rich(field, value)).await;
        assert_eq!(error.field(), Some(field), "{error}");
    }
    for field in ["question", "passages", "person", "note"] {
        let mut inputs = rich("flag", json!(true));
        inputs.as_object_mut().unwrap().remove(field);
        let error = refused(&program, inputs).await;
        assert_eq!(error.field(), Some(field), "{error}");
        assert!(error.to_string().contains("missing"), "{error}");
    }
    assert_eq!(lm_server().await.requests(model).len(), 0);

    program
        .oneshot(PredictRequest::new(rich("ratio", json!(1))))
        .await
        .unwrap();
    assert_eq!(lm_server().await.requests(model).len(), 1);
}

#[tokio::test]
async fn inputs_other_than_an_object_reach_no_lm() {
    let host = host().await;
    let qa = question(&host, "no object").await;
    for inputs in [
        json!(null),
        json!(1),
        json!("?"),
        json!(["?"]),
        json!([["question", "?"]]),
    ] {
        let error = refused(&qa, inputs).await;
        assert_eq!(error.field(), None);
        assert!(error.to_string().contains("not a JSON object"), "{error}");
    }
    assert_eq!(lm_server().await.requests("no object").len(), 0);
}

#[tokio::test]
async fn names_reserved_by_dspy_reach_no_program() {
    let host = host().await;
    let elsewhere = json!({"api_base": "http://127.0.0.1:1/v1"});
    let qa = question(&host, "privileged").await;
    let defaults = load(&host, "inputs:Defaults", "privileged").await;
    for program in [qa, defaults.clone()] {
        for name in ["config", "signature", "demos", "lm"] {
            let error = refused(&program, json!({"question": "?", name: elsewhere})).await;
            assert_eq!(error.field(), Some(name));
            assert!(error.to_string().contains("reserved"), "{error}");
        }
        for name in [
            "_trace",
            "api_base",
            "rollout_id",
            "prediction",
            "temperature",
        ] {
            let error = refused(&program, json!({"question": "?", name: elsewhere})).await;
            assert_eq!(error.field(), Some(name));
        }
    }
    assert_eq!(lm_server().await.requests("privileged").len(), 0);

    // The parameter's own default is used, and optional ones may be left out.
    let answer = defaults
        .oneshot(PredictRequest::new(json!({"question": "?"})))
        .await
        .unwrap();
    assert_eq!(answer.outputs["config"], Value::Null);
    assert_eq!(answer.outputs["answer"], "You said: ? (short)");
}

#[tokio::test]
async fn histories_and_images_are_judged_by_their_own_types() {
    let host = host().await;
    let chat = load(&host, "inputs:Chat", "chat").await;
    let looks = load(&host, "inputs:Looks", "looks").await;
    for history in [
        json!([]),
        json!({}),
        json!({"messages": ["hello"]}),
        json!({"messages": 1}),
    ] {
        let error = refused(&chat, json!({"question": "?", "history": history})).await;
        assert_eq!(error.field(), Some("history"), "{error}");
    }
    for picture in [
        json!("/etc/passwd"),
        json!({"url": "/etc/passwd"}),
        json!({}),
        json!(1),
    ] {
        let error = refused(&looks, json!({"picture": picture})).await;
        assert_eq!(error.field(), Some("picture"), "{error}");
    }
    let lm = lm_server().await;
    assert_eq!(lm.requests("chat").len() + lm.requests("looks").len(), 0);

    let turns = json!({"messages": [{"question": "1 + 1", "answer": "2"}]});
    let inputs = json!({"question": "and + 1?", "history": turns});
    chat.oneshot(PredictRequest::new(inputs)).await.unwrap();
    assert!(lm.requests("chat")[0].body.to_string().contains("1 + 1"));
    let inputs = json!({"picture": {"url": "https://example.com/cat.png"}});
    looks.oneshot(PredictRequest::new(inputs)).await.unwrap();
    assert!(lm.requests("looks")[0].body.to_string().contains("cat.png"));
}

#[tokio::test]
async fn strings_are_converted_to_types_made_from_strings() {
    let (host, lm) = (host().await, lm_server().await);
    let reads = load(&host, "inputs:Reads", "reads").await;
    let inputs = json!({"code": "x = 1", "reasoning": "because"});
    for (field, value) in [
        ("code", json!({"text": "x"})),
        ("code", json!(1)),
        ("reasoning", json!(["because"])),
    ] {
        let mut inputs = inputs.clone();
        inputs[field] = value;
        assert_eq!(refused(&reads, inputs).await.field(), Some(field));
    }
    assert_eq!(lm.requests("reads").len(), 0);
    reads.oneshot(PredictRequest::new(inputs)).await.unwrap();
    let body = lm.requests("reads")[0].body.to_string();
    assert!(body.contains("x = 1") && body.contains("because"), "{body}");

    let media = load(&host, "inputs:media", "unused").await;
    let inputs = json!({
        "audio": "data:audio/wav;base64,eA==", "file": {"filename": "f"}, "document": "text",
    });
    for (field, value) in [
        ("audio", json!("/etc/passwd")),
        ("file", json!("/etc/passwd")),
        ("document", json!(5)),
    ] {
        let mut inputs = inputs.clone();
        inputs[field] = value;
        assert_eq!(refused(&media, inputs).await.field(), Some(field));
    }
    let answer = media.oneshot(PredictRequest::new(inputs)).await.unwrap();
    let expected = json!({"audio": "eA==", "file": "f", "document": "text"});
    assert_eq!(json!(answer.outputs), expected);
}

#[tokio::test]
async fn validators_see_a_value_before_its_type_is_checked() {
    let host = host().await;
    let tags = load(&host, "inputs:tags_of", "unused").await;
    for value in [json!("a,b"), json!({"names": ["a", "b"]})] {
        let request = PredictRequest::new(json!({"tags": value}));
        let answer = tags.clone().oneshot(request).await.unwrap();
        assert_eq!(json!(answer.outputs), json!({"names": ["a", "b"]}));
    }
    let error = refused(&tags, json!({"tags": 1})).await;
    assert_eq!(error.field(), Some("tags"));
}

#[tokio::test]
async fn a_strict_model_takes_the_json_form_of_its_types() {
    let host = host().await;
    let visited = load(&host, "inputs:visited", "unused").await;
    let visit = json!({"day": "2024-02-29T12:00:00", "mood": "calm", "span": [1, 2]});
    let request = PredictRequest::new(json!({"visit": visit}));
    let answer = visited.clone().oneshot(request).await.unwrap();
    assert_eq!(json!(answer.outputs), json!({"hour": 12, "span": "(1, 2)"}));
    let visit = json!({"day": "2024-02-29T12:00:00", "mood": "calm", "span": ["1", 2]});
    let error = refused(&visited, json!({"visit": visit})).await;
    assert!(error.to_string().contains("visit.span.0"), "{error}");
}

#[tokio::test]
async fn annotations_only_for_type_checkers_accept_any_value() {
    let host = host().await;
    let program = load(&host, "inputs:ForTypeCheckers", "type checkers").await;
    let inputs = json!({"question": "?", "context": {"any": ["thing"]}});
    program.oneshot(PredictRequest::new(inputs)).await.unwrap();

    let function = load(&host, "inputs:for_type_checkers", "unused").await;
    let error = refused(&function, json!({"value": 1, "size": "two"})).await;
    assert_eq!(error.field(), Some("size"));
    let inputs = json!({"value": [1, null], "size": 2});
    let request = PredictRequest::new(inputs.clone());
    let answer = function.oneshot(request).await.unwrap();
    assert_eq!(json!(answer.outputs), inputs);
}

#[tokio::test]
async fn structured_inputs_arrive_as_their_types() {
    let host = host().await;
    let program = load(&host, "inputs:types_of", "unused").await;
    let home = json!({"street": "High Street", "number": 1});
    let inputs = json!({
        "person": {"name": "Ada", "home": home}, "mood": "cross", "sizes": [1, 2, 3],
    });
    let answer = program.oneshot(PredictRequest::new(inputs)).await.unwrap();
    let expected = json!({"person": "Person", "street": "High Street", "sum": 6});
    assert_eq!(json!(answer.outputs), expected);
}

#[tokio::test]
async fn deep_inputs_are_refused_and_large_ones_arrive() {
    let host = host().await;
    let program = load(&host, "inputs:echo", "unused").await;
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    let error = refused(&program, json!({"value": nested(1000)})).await;
    assert!(error.to_string().contains("nested"), "{error}");

    let large: Vec<_> = (0..100_000)
        .map(|n| json!({"n": n, "text": "äöü \u{1F600}"}))
        .collect();
    for value in [
        nested(100),
        json!(large),
        json!(u64::MAX),
        json!(i64::MIN),
        json!("\u{0}"),
    ] {
        let inputs = json!({"value": value});
        let answer = program
            .clone()
            .oneshot(PredictRequest::new(inputs.clone()))
            .await;
        assert!(json!(answer.unwrap().outputs) == inputs);
    }
}

#[tokio::test]
async fn the_error_names_the_expected_type() {
    let host = host().await;
    let program = load(&host, "inputs:Rich", "expected").await;
    let error = refused(&program, rich("mood", json!("angry"))).await;
    assert!(
        error.expected().contains("Literal['calm', 'cross']"),
        "{error}"
    );
    let person = json!({"name": "Ada", "home": {"street": "High Street", "number": "one"}});
    let error = refused(&program, rich("person", person)).await;
    assert!(error.to_string().contains("person.home.number"), "{error}");
    assert_eq!(Error::from(error).kind(), ErrorKind::InvalidInput);
}
