//! The LM server of all sides: it records each request and answers in its dialect.
//!
//! A base URL is `http://127.0.0.1:PORT/<side>/<row>` and what the provider's own has behind it.

mod answers;
mod contents;
mod dialect;
mod events;
mod failures;
mod gzip;
mod prompt;
mod seen;
mod sigv4;

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Response, StatusCode},
};
use futures_util::{StreamExt, stream};
use tokio::{net::TcpListener, time::sleep};

pub(super) use self::seen::Seen;
use self::{answers::Answer, dialect::Dialect};
use super::{Row, corpus::Reply};

/// The tokens that the server told of a side's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

#[derive(Debug)]
pub(super) struct Server {
    address: String,
    state: Arc<Records>,
}

#[derive(Debug)]
struct Records {
    replies: HashMap<String, Vec<Reply>>,
    visits: Mutex<HashMap<(String, String), Visit>>,
}

/// What came from one side for one row.
#[derive(Debug, Default)]
struct Visit {
    seen: Vec<Seen>,
    told: Told,
    /// Which of the row's replies are used up.
    used: Vec<usize>,
}

impl Server {
    pub(super) async fn start(rows: &[Row]) -> Self {
        let replies = rows
            .iter()
            .map(|row| (row.name.clone(), row.replies.clone()));
        let state = Arc::new(Records {
            replies: replies.collect(),
            visits: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The requests of a side for a row, in the order in which they came.
    pub(super) fn seen(&self, side: &str, row: &str) -> Vec<Seen> {
        self.state.with(side, row, |visit| visit.seen.clone())
    }

    pub(super) fn told(&self, side: &str, row: &str) -> Told {
        self.state.with(side, row, |visit| visit.told)
    }
}

impl Records {
    fn with<T>(&self, side: &str, row: &str, work: impl FnOnce(&mut Visit) -> T) -> T {
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        work(visits.entry((side.to_owned(), row.to_owned())).or_default())
    }

    /// The next reply of the row's script that is for this request; the usual one after them.
    fn reply(&self, side: &str, row: &str, seen: Seen) -> (usize, Reply) {
        let replies = self.replies.get(row).map_or(&[][..], Vec::as_slice);
        self.with(side, row, |visit| {
            let next = replies.iter().enumerate().find(|(n, reply)| {
                !visit.used.contains(n)
                    && reply.when.as_ref().is_none_or(|when| seen.contains(when))
            });
            let number = visit.seen.len();
            visit.seen.push(seen);
            let reply = next.map(|(n, reply)| {
                visit.used.push(n);
                reply.clone()
            });
            (number, reply.unwrap_or_default())
        })
    }
}

async fn handle(State(state): State<Arc<Records>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = head.uri.path().trim_start_matches('/').to_owned();
    let mut parts = path.splitn(3, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (side, row, rest) = (part(), part(), part());
    let seen = Seen::new(&head, &format!("/{rest}"), &body);
    let dialect = Dialect::of(rest);
    let asked = seen.body.clone();
    let (number, reply) = state.reply(side, row, seen);
    let answer = Answer::new(dialect, rest, &asked, &reply, number as u64);
    // A client that does not wait so long is told nothing.
    sleep(Duration::from_secs_f64(reply.delay)).await;
    if !reply.cut {
        state.with(side, row, |visit| {
            visit.told.prompt += answer.told.prompt;
            visit.told.completion += answer.told.completion;
        });
    }
    respond(answer, &reply)
}

fn respond(answer: Answer, reply: &Reply) -> Response<Body> {
    let status = StatusCode::from_u16(reply.status.unwrap_or(200)).expect("a status");
    let mut response = Response::builder()
        .status(status)
        .header("content-type", answer.content_type);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let body = if reply.cut {
        let half = answer.body[..answer.body.len() / 2].to_owned();
        Body::from_stream(stream::iter([Ok(half)]).chain(stream::once(async {
            // For the head and the first half to be on their way.
            sleep(Duration::from_millis(50)).await;
            Err(io::Error::other("the reply is cut"))
        })))
    } else if reply.gzip {
        response = response.header("content-encoding", "gzip");
        Body::from(gzip::stored(answer.body.as_bytes()))
    } else {
        Body::from(answer.body)
    };
    response.body(body).expect("a response")
}
