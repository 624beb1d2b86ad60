//! Requests whose call ends before they leave: they are not sent.

use std::{convert::Infallible, sync::atomic::AtomicBool, thread};

use futures_util::poll;
use tokio::{
    net::TcpListener,
    task::yield_now,
    time::{Instant, timeout},
};
use tower::{Service, ServiceExt, layer::layer_fn};

use super::{super::departure::CallOver, *};
use crate::{
    call::{Cancel, Cause},
    layers::TimeoutLayer,
    testing::scripted_lm::ScriptedLm,
};

/// An LM that answers at once.
fn quick() -> (Lm, Arc<AtomicU32>) {
    lm(|_, _| std::future::ready(Ok::<_, Infallible>(Response::new(Pieces::after([])))))
}

/// A layer that keeps each request for a second.
fn keeps(lm: Lm) -> LmHandle {
    let layer = layer_fn(|inner: LmHttp| {
        service_fn(move |request: LmRequest| {
            let mut inner = inner.clone();
            async move {
                sleep(SECOND).await;
                inner.ready().await?.call(request).await
            }
        })
    });
    connect(&lm.layer(layer))
}

/// The failure of a request that a layer kept until its limit passed.
async fn kept(lm: LmHandle, mut request: LmRequest, deadline: Option<Duration>) -> LmFailureKind {
    if let Some(limit) = deadline {
        request.context_mut().limit(Deadline::within(limit));
    }
    let (request, log) = with_log(request);
    let began = Instant::now();
    let failure = lm.send(request).await.expect_err("it is late");
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(outcomes(&log), [LmOutcome::Refused]);
    failure.kind()
}

#[tokio::test(start_paused = true)]
async fn a_request_held_by_a_layer_until_its_limit_is_not_sent() {
    let ask = || request(URL, "x", false);
    let (lm, sent) = quick();
    let kind = kept(keeps(lm.clone()), ask(), Some(SECOND)).await;
    assert_eq!(kind, LmFailureKind::Deadline);
    // The limit of an attempt, which a layer keeps; were it the deadline, nobody would try again.
    let attempt = lm.layer(TimeoutLayer::new(SECOND));
    let kind = kept(keeps(attempt), ask(), None).await;
    assert_eq!(kind, LmFailureKind::TotalTimeout);
    assert_eq!(sent.load(Ordering::Relaxed), 0);

    let (lm, sent) = quick();
    let lm = lm.limits(LmLimits::new().with_total(SECOND));
    let kind = kept(keeps(lm), ask(), None).await;
    assert_eq!(kind, LmFailureKind::TotalTimeout);
    assert_eq!(sent.load(Ordering::Relaxed), 0);
}

/// What may end a request between the poll that hands it to its connection and that one's own.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Deadline,
    Cancel,
    Call,
}

#[tokio::test]
async fn a_request_ended_before_it_is_written_is_not_sent() {
    let server = ScriptedLm::start().await.expect("a server");
    let lm = connect(&lm_at(server.base_url()));
    let ask = |model: &str| request(server.base_url(), model, false);
    for end in [Ends::Deadline, Ends::Cancel, Ends::Call] {
        // There is a connection that waits for the next request.
        let first = lm.send(ask("first")).await.expect("an answer");
        text(first.into_body()).await.expect("a body");

        let (mut late, log) = with_log(ask("late"));
        let (node, over) = (Cancel::new(), Arc::new(AtomicBool::new(false)));
        let call = over.clone();
        let call = CallOver(Arc::new(move || call.load(Ordering::Relaxed)));
        // It has to be with its connection before this passes.
        let deadline = Deadline::within(3 * SECOND);
        match end {
            Ends::Deadline => drop(late.context_mut().limit(deadline)),
            Ends::Cancel => late.context_mut().cancel = node.clone(),
            Ends::Call => drop(late.extensions_mut().insert(call)),
        }
        let mut sending = Box::pin(lm.send(late));
        // It is with the connection, whose task is next on this runtime's only thread.
        assert!(poll!(&mut sending).is_pending(), "{end:?}");
        match end {
            // No other task may run meanwhile.
            Ends::Deadline => {
                while !deadline.is_past() {
                    thread::park_timeout(Duration::from_millis(1));
                }
            }
            Ends::Cancel => drop(node.cancel(Cause::ClientGone)),
            Ends::Call => over.store(true, Ordering::Relaxed),
        }
        // Its connection is closed while nobody polls the call: it was the connection's turn.
        let closed = server.wait_for_connections(|open| open == 0);
        closed.await.expect("a closed connection");
        let failure = sending.await.expect_err("it was not sent");
        let kind = match end {
            Ends::Deadline => LmFailureKind::Deadline,
            Ends::Cancel | Ends::Call => LmFailureKind::Refused,
        };
        assert_eq!(failure.kind(), kind, "{end:?}: {failure}");
        let call = &log.calls()[0];
        assert_eq!(
            (call.outcome, call.sent),
            (LmOutcome::Refused, None),
            "{end:?}"
        );
        // No byte of it has come.
        assert!(server.requests("late").is_empty(), "{end:?}");
    }
}

#[tokio::test]
async fn the_instant_at_which_a_request_is_sent_is_reported() {
    let server = ScriptedLm::start().await.expect("a server");
    let lm = connect(&lm_at(server.base_url()));
    let (request, log) = with_log(request(server.base_url(), "sent", false));
    let answer = timeout(30 * SECOND, lm.send(request))
        .await
        .expect("in time");
    text(answer.expect("an answer").into_body())
        .await
        .expect("a body");
    let call = &log.calls()[0];
    let sent = call.sent.expect("it was sent");
    assert!(
        call.started <= sent && sent <= call.started + call.duration,
        "{call:?}"
    );
}

#[tokio::test]
async fn a_request_dropped_while_its_connection_is_made_is_not_aborted() {
    // It never answers the hello of TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await;
    let silent = silent.expect("a listener");
    let base = format!("https://{}/v1", silent.local_addr().expect("an address"));
    let aborts = Arc::new(AtomicU32::new(0));
    let count = aborts.clone();
    let lm = lm_at(&base).abort(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        None
    });
    let lm = connect(&lm);
    let sending = lm.send(request(&base, "x", true));
    tokio::select! {
        answer = sending => panic!("{:?}", answer.map(|answer| answer.status())),
        connection = silent.accept() => drop(connection.expect("a connection")),
    }
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(aborts.load(Ordering::Relaxed), 0);
}
