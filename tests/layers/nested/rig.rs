//! A stack written as text, and the outcome of one call through it, as text.
//!
//! A row of a table is a stack, outermost first, the work inside it, the answer and the attempts.
//! `*` in a stack stands for each of the foreign layers that stay in the task of the call.
//! A limit is in seconds, `+` is its grace: `deadline 3+5 > * > attempt 9`.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Cancel, CancelLayer, Cancelled, Cause, Deadline, DeadlineLayer, Elapsed, TimeoutLayer,
    drop_scope,
};

use crate::{
    retry::at_once,
    support::{Mocked, Request, request, secs},
};

/// The stack, the work, the answer, and what each attempt saw.
pub(super) type Row = (&'static str, Work, &'static str, &'static [&'static str]);

/// The layers that `*` stands for. They pass on the request, and poll in the task of the call.
const FOREIGN: [&str; 5] = ["nothing", "map", "tower 200", "permits", "buffer"];

#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Takes a minute, whatever its node says.
    Deaf,
    /// Works for a minute, or cleans up for so many seconds once its node is cancelled.
    Tidies(u64),
    /// Answers after so many seconds.
    Takes(u64),
}

/// Calls the stack of each row, and compares.
pub(super) async fn check(rows: &[Row]) {
    let mut wrong = vec![];
    let mut checked = 0;
    for (stack, work, answer, attempts) in rows {
        let foreign = if stack.contains('*') {
            &FOREIGN[..]
        } else {
            &FOREIGN[..1]
        };
        for layer in foreign {
            let stack = stack.replace('*', layer);
            let seen = call(&stack, *work).await;
            let expected = format!("{answer}; {}", attempts.join("; "));
            if seen != expected {
                wrong.push(format!(
                    "{stack}, {work:?}\n  is     {seen}\n  not    {expected}"
                ));
            }
            checked += 1;
        }
    }
    assert!(checked >= rows.len() && !rows.is_empty());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Makes one call, and waits until all of its work has ended.
async fn call(stack: &str, work: Work) -> String {
    let log = Log::new();
    let mut request = request();
    let mut service = log.service(work);
    let (outer, inner) = split(stack);
    for piece in inner.iter().rev() {
        service = put(piece, service);
    }
    for (name, n) in outer {
        match name {
            "wire" => drop(request.context.limit(Deadline::within(n))),
            _ => {
                let node = Cancel::new();
                request.context.cancel = node.clone();
                tokio::spawn(async move {
                    sleep(n).await;
                    node.cancel(Cause::ClientGone);
                });
            }
        }
    }
    let result = service.oneshot(request).await;
    let answer = format!("@{} {}", log.now(), name(result));
    // The longest work takes a minute.
    sleep(secs(100)).await;
    format!("{answer}; {}", log.attempts())
}

/// What the request brings with it, and the layers.
fn split(stack: &str) -> (Vec<(&str, Duration)>, Vec<&str>) {
    let (mut brings, mut layers) = (vec![], vec![]);
    for piece in stack.split(" > ") {
        match piece.split_once(' ') {
            Some((name @ ("wire" | "gone"), n)) => brings.push((name, seconds(n))),
            _ => layers.push(piece),
        }
    }
    (brings, layers)
}

fn seconds(n: &str) -> Duration {
    secs(n.parse().unwrap())
}

/// Puts one layer around `inner`.
fn put(piece: &str, inner: Mocked) -> Mocked {
    let (layer, grace) = piece.split_once('+').unwrap_or((piece, "0"));
    let grace = seconds(grace);
    let (name, n) = layer.split_once(' ').unwrap_or((layer, "0"));
    let from_context = n == "context";
    let n = if from_context { secs(0) } else { seconds(n) };
    let builder = ServiceBuilder::new();
    match name {
        "deadline" if from_context => {
            let layer = DeadlineLayer::from_context().with_grace(grace);
            Mocked::new(layer.layer(inner))
        }
        "deadline" => Mocked::new(DeadlineLayer::new(n).with_grace(grace).layer(inner)),
        "attempt" => Mocked::new(TimeoutLayer::new(n).with_grace(grace).layer(inner)),
        "cancel" => Mocked::new(CancelLayer::new().with_grace(grace).layer(inner)),
        "retry" => Mocked::new(at_once(n.as_secs() as u32).layer(inner)),
        "nothing" => inner,
        "map" => Mocked::new(builder.map_request(|request| request).service(inner)),
        "tower" => Mocked::new(builder.timeout(n).service(inner)),
        "permits" => Mocked::new(builder.concurrency_limit(9).service(inner)),
        "buffer" => Mocked::new(builder.buffer(9).service(inner)),
        // Ready only after so long.
        "busy" => {
            let busy = builder.concurrency_limit(1).service(inner);
            let mut first = busy.clone();
            // Its permit is taken before the call comes.
            first.ready().now_or_never().unwrap().unwrap();
            tokio::spawn(async move {
                sleep(n).await;
                drop(first);
            });
            Mocked::new(busy)
        }
        // The work goes on when the handle is dropped.
        "spawn" => Mocked::new(service_fn(move |request: Request| {
            let call = tokio::spawn(inner.clone().oneshot(request));
            async move { call.await? }
        })),
        // A request of its own, without the context of the outer one.
        "fresh" => Mocked::new(builder.map_request(|_| request()).service(inner)),
        _ => panic!("no such layer: {piece}"),
    }
}

fn name(result: Result<&'static str, BoxError>) -> String {
    let error = match result {
        Ok(answer) => return answer.to_owned(),
        Err(error) => error,
    };
    if let Some(elapsed) = error.downcast_ref::<Elapsed>() {
        let limit = elapsed.limit().as_secs_f64();
        let (scope, stage) = (elapsed.scope(), elapsed.stage());
        return format!("{scope:?} of {limit}, {stage:?}").to_lowercase();
    }
    match error.downcast_ref::<Cancelled>() {
        Some(cancelled) => format!("cancelled, {}", cancelled.cause()),
        None if error.is::<tower::timeout::error::Elapsed>() => "tower's limit".to_owned(),
        None => error.to_string(),
    }
}

/// What the attempts of one call saw.
#[derive(Clone)]
struct Log {
    start: Instant,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

#[derive(Default)]
struct Attempt {
    begun: f64,
    /// When its node was cancelled while it ran, and why.
    told: Option<(f64, Cause)>,
    /// When it was done, or was dropped for a cause.
    ended: Option<(f64, Option<Cause>)>,
}

impl Log {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            attempts: Arc::default(),
        }
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn attempts(&self) -> String {
        let attempts = self.attempts.lock().unwrap();
        let attempts: Vec<_> = attempts.iter().map(Attempt::to_string).collect();
        attempts.join("; ")
    }

    fn service(&self, work: Work) -> Mocked {
        let log = self.clone();
        Mocked::new(service_fn(move |request: Request| {
            let running = log.begin();
            async move {
                let node = request.context.cancel;
                let told = async {
                    match node.cancelled_owned() {
                        Some(told) => told.await,
                        None => std::future::pending().await,
                    }
                };
                let takes = match work {
                    Work::Deaf | Work::Tidies(_) => 60,
                    Work::Takes(takes) => takes,
                };
                let end = sleep(secs(takes));
                tokio::pin!(end);
                tokio::select! {
                    biased;
                    () = &mut end => {}
                    () = told => {
                        running.told(node.cause().unwrap());
                        match work {
                            Work::Tidies(tidy) => sleep(secs(tidy)).await,
                            Work::Deaf | Work::Takes(_) => end.await,
                        }
                    }
                }
                running.end(None);
                Ok("answer")
            }
        }))
    }

    fn begin(&self) -> Running {
        let begun = self.now();
        let mut attempts = self.attempts.lock().unwrap();
        attempts.push(Attempt {
            begun,
            ..Attempt::default()
        });
        Running(self.clone(), attempts.len() - 1)
    }
}

struct Running(Log, usize);

impl Running {
    fn told(&self, cause: Cause) {
        let told = Some((self.0.now(), cause));
        self.0.attempts.lock().unwrap()[self.1].told = told;
    }

    fn end(&self, dropped: Option<Cause>) {
        let now = self.0.now();
        let attempt = &mut self.0.attempts.lock().unwrap()[self.1];
        attempt.ended.get_or_insert((now, dropped));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Some(drop_scope::cause()));
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ended {
            Some((at, _)) => write!(f, "{}-{at}", self.begun)?,
            None => write!(f, "{}-", self.begun)?,
        }
        if let Some((at, cause)) = self.told {
            write!(f, " told {cause} at {at},")?;
        }
        match self.ended {
            Some((_, Some(cause))) => write!(f, " dropped {cause}"),
            Some((_, None)) => write!(f, " done"),
            None => write!(f, " runs on"),
        }
    }
}
