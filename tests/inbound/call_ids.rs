//! The id of a call, in each response and in each error, and the cancellation by it.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, extract::Path, response::Response, routing::get};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    CallContext, CallId, CallStatus, CancelLayer, Cancelled, Carrier, Cause, Classify,
    DeadlineLayer, Error, ErrorKind, InboundLayer, PredictRequest, Prediction, Serve, Shutdown,
    ShutdownLayer, TimeoutLayer, TrackLayer, Tracker,
    inbound::axum::{
        cancel_call, predict,
        stream::{ChatFields, ChatPrograms, StreamOptions},
    },
    testing::{
        error_of,
        mock::{MockDspy, Reply},
    },
};

use super::{
    stream::errors,
    support::{header, json as read, secs},
};

fn id_of(response: &Response) -> CallId {
    let id = header(response.headers(), "x-call-id").expect("a response has an id");
    id.parse().expect("it is a number")
}

fn post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into())
        .unwrap()
}

/// All handlers over one program, which answers with the id of its call or fails.
fn handlers() -> Router {
    let program = service_fn(|mut request: PredictRequest| async move {
        if request.inputs()["question"] == "fail" {
            return Err(error_of(ErrorKind::Lost).unwrap());
        }
        let id = request.context_mut().id();
        let outputs = [("answer".to_owned(), json!(id.to_string()))];
        Ok::<_, Error>(Prediction::new(outputs.into_iter().collect()))
    });
    let streaming = program.map_response(Into::into);
    let options = StreamOptions::new().with_head_after(None);
    let fields = || ChatFields::new("question", "answer");
    let programs = ChatPrograms::new().program("qa", fields(), program, streaming.clone());
    Router::new()
        .route("/predict", predict(program))
        .route(
            "/stream",
            options.predict_stream(program, streaming.clone()),
        )
        .route("/ui", options.ui_messages(streaming, fields()))
        .merge(options.chat_completions(programs))
}

fn asks(question: &str) -> [(&'static str, Value); 5] {
    let ui = json!([{"id": "1", "role": "user", "parts": [{"type": "text", "text": question}]}]);
    let chat = json!([{"role": "user", "content": question}]);
    let inputs = json!({"question": question});
    [
        ("/predict", inputs.clone()),
        ("/stream", inputs),
        ("/ui", json!({"messages": ui})),
        (
            "/v1/chat/completions",
            json!({"model": "qa", "messages": chat}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "qa", "messages": chat, "stream": true}),
        ),
    ]
}

#[tokio::test]
async fn each_handler_names_its_call_in_answers_and_in_failures() {
    // With the layer that gives ids, and without it.
    for app in [handlers().layer(InboundLayer::new()), handlers()] {
        for (path, body) in asks("why") {
            let response = app.clone().oneshot(post(path, &body)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let id = id_of(&response);
            let body = super::support::body(response).await;
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(
                body.contains(&format!("\"{id}\"")),
                "{path}: {id} in {body}"
            );
        }
        for (path, body) in asks("fail") {
            let response = app.clone().oneshot(post(path, &body)).await.unwrap();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            let id = id_of(&response);
            let problem = read(response).await;
            let problem = problem.get("error").unwrap_or(&problem);
            assert_eq!(problem["call_id"], id.get(), "{path}");
        }
        for (path, _) in asks("") {
            let response = app.clone().oneshot(post(path, &json!(7))).await.unwrap();
            assert!(
                response.status().is_client_error() || path != "/ui",
                "{path}"
            );
            let _ = id_of(&response);
        }
    }
}

#[tokio::test]
async fn two_calls_have_two_ids_and_what_a_client_sends_is_no_id() {
    let app = handlers().layer(InboundLayer::new());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut request = post("/predict", &json!({"question": "why"}));
        request
            .headers_mut()
            .insert("x-call-id", "1000000000".parse().unwrap());
        ids.push(id_of(&app.clone().oneshot(request).await.unwrap()));
    }
    assert!(ids[0] < ids[1] && ids[1].get() < 1_000_000_000, "{ids:?}");
}

#[tokio::test]
async fn a_response_that_has_an_id_keeps_it() {
    let handler = async || ([("x-call-id", "of another server")], "passed on");
    let app: Router = Router::new()
        .route("/", get(handler))
        .layer(InboundLayer::new());
    let request = Request::get("/").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(
        header(response.headers(), "x-call-id"),
        Some("of another server")
    );
}

#[tokio::test]
async fn a_refused_timeout_and_an_error_of_a_layer_name_the_call() {
    let app: Router = Router::new().route("/", get(async || "hello"));
    let shutdown = Shutdown::new();
    let app = app
        .layer(Serve::new(ShutdownLayer::new(shutdown.clone())))
        .layer(InboundLayer::new());
    let ask = |timeout: &str| {
        let request = Request::get("/").header("x-request-timeout", timeout);
        app.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let refused = ask("soon").await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let id = id_of(&refused);
    assert_eq!(read(refused).await["call_id"], id.get());

    let _ = shutdown.run(Duration::ZERO, Duration::ZERO).await;
    let closed = ask("1").await.unwrap();
    assert_eq!(closed.status(), StatusCode::SERVICE_UNAVAILABLE);
    let id = id_of(&closed);
    assert_eq!(read(closed).await["call_id"], id.get());
}

/// As a handler of a user's does.
#[tokio::test]
async fn an_error_of_a_served_call_has_the_id_of_its_response() {
    let handler = async |context: CallContext, Path(way): Path<String>| {
        let mock = MockDspy::new([Reply::hang()]);
        let request = PredictRequest::new(json!({})).with_context(context);
        let limit = Duration::from_millis(1);
        match &*way {
            "deadline" => {
                let layers = ServiceBuilder::new().layer(DeadlineLayer::new(limit));
                layers.service(mock).oneshot(request).await
            }
            "attempt" => {
                let layers = ServiceBuilder::new().layer(TimeoutLayer::new(limit));
                layers.service(mock).oneshot(request).await
            }
            _ => {
                request.context().unwrap().cancel.cancel(Cause::Caller);
                mock.oneshot(request).await
            }
        }
    };
    let app: Router = Router::new()
        .route("/{way}", get(handler))
        .layer(InboundLayer::new());
    for way in ["deadline", "attempt", "cancelled"] {
        let request = Request::get(format!("/{way}"))
            .header("x-request-timeout", "3600")
            .body(Body::empty())
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let id = id_of(&response);
        assert!(!response.status().is_success());
        assert_eq!(read(response).await["call_id"], id.get(), "{way}");
    }
}

/// A tracker and its calls: two that hang, and one that is only observed.
async fn tracked() -> (Tracker, Router, [CallId; 3], MockDspy) {
    let tracker = Tracker::new().with_samples(1);
    let mock = MockDspy::from_fn(|_| Reply::hang().lingers(secs(5)));
    let layer = TrackLayer::new(tracker.clone());
    for layer in [layer.clone(), layer.clone(), layer.observe_only()] {
        let service = ServiceBuilder::new()
            .layer(layer)
            .layer(CancelLayer::new().with_grace(secs(9)))
            .service(mock.clone());
        tokio::spawn(service.oneshot(PredictRequest::new(json!({}))));
    }
    mock.wait_for(|calls| calls.len() == 3).await;
    let ids: Vec<_> = tracker.calls().iter().map(|call| call.id).collect();
    let app = Router::new().route("/calls/{id}", cancel_call(tracker.clone()));
    (tracker, app, ids.try_into().unwrap(), mock)
}

async fn delete(app: &Router, path: String) -> Response {
    let request = Request::delete(path).body(Body::empty()).unwrap();
    let response: Result<_, Infallible> = app.clone().oneshot(request).await;
    response.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_is_cancelled_by_its_id_and_no_other() {
    let (tracker, app, [first, second, _], mock) = tracked().await;
    let response = delete(&app, format!("/calls/{first}")).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    // Again, while its work still stops.
    let again = delete(&app, format!("/calls/{first}")).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    tracker.cancel(first).settled().await;
    assert_eq!(mock.in_flight(), 2);
    assert_eq!(mock.stopped(), [Cause::Caller]);
    assert_eq!(tracker.get(second).unwrap().status, CallStatus::Running);
    let gone = delete(&app, format!("/calls/{first}")).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_that_waits_is_answered_once_the_call_is_settled_or_the_wait_is_over() {
    let (_, app, [first, second, _], mock) = tracked().await;
    let began = Instant::now();
    let waited = delete(&app, format!("/calls/{first}?wait=2s")).await;
    assert_eq!(waited.status(), StatusCode::ACCEPTED);
    assert_eq!(began.elapsed(), secs(2));
    assert_eq!(mock.in_flight(), 3);

    let waited = delete(&app, format!("/calls/{second}?wait=60s")).await;
    assert_eq!(waited.status(), StatusCode::NO_CONTENT);
    assert_eq!(began.elapsed(), secs(7));
    assert_eq!(mock.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_cancelled_says_so_and_nothing_but_delete_is_taken() {
    let (_, app, [first, _, observed], mock) = tracked().await;
    for (path, status) in [
        (format!("/calls/{observed}"), StatusCode::CONFLICT),
        (format!("/calls/{}", u64::MAX), StatusCode::NOT_FOUND),
        ("/calls/0".to_owned(), StatusCode::BAD_REQUEST),
        ("/calls/all".to_owned(), StatusCode::BAD_REQUEST),
        (format!("/calls/{first}?wait=long"), StatusCode::BAD_REQUEST),
    ] {
        let response = delete(&app, path.clone()).await;
        assert_eq!(response.status(), status, "{path}");
        let problem = read(response).await;
        assert!(problem["detail"].is_string(), "{path}: {problem}");
    }
    for method in [Method::GET, Method::POST] {
        let request = Request::builder()
            .method(method)
            .uri(format!("/calls/{first}"));
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(mock.in_flight(), 3);
    assert!(mock.stopped().is_empty());
}

/// Of a call without a layer that limits it, and of errors that nothing ran for.
#[tokio::test]
async fn a_tracked_call_puts_its_id_onto_errors_of_any_kind() {
    let tracker = Tracker::new().with_history(1);
    for n in 0..errors().len() {
        let fails =
            service_fn(
                move |_: PredictRequest| async move { Err::<(), _>(errors().swap_remove(n)) },
            );
        let ours = TrackLayer::new(tracker.clone());
        let service = ServiceBuilder::new().layer(ours.clone()).service(fails);
        let error = service.oneshot(PredictRequest::new(json!({}))).await;
        let error = error.unwrap_err();
        let id = tracker.history()[0].id;
        assert_eq!(error.call_id(), Some(id), "{error}");
        assert!(error.spent().is_none(), "{error}");
        assert_eq!(error.kind(), errors()[n].kind());

        let boxed = service_fn(move |_: PredictRequest| async move {
            Err::<(), BoxError>(errors().swap_remove(n).into())
        });
        let service = ServiceBuilder::new().layer(ours).service(boxed);
        let error = service.oneshot(PredictRequest::new(json!({}))).await;
        let error = error.unwrap_err();
        assert_eq!(
            CallId::of(&*error),
            Some(tracker.history()[0].id),
            "{error}"
        );
    }
    let id = CallId::next();
    let first = Cancelled::new(Cause::Caller).with_call_id(id);
    let other = first.clone().with_call_id(CallId::next());
    assert_eq!((other.call_id(), &other), (Some(id), &first));
}
