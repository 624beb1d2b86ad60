//! Plays one reply: waits, produces tokens, writes the response.
//!
//! All of it is one future and then one body, both owned by the connection. When the client goes
//! away hyper drops whichever is at work, and with it the [`Entry`], which records the event.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response};
use tokio::time::sleep;

use super::body::{Cut, Out, ReplyBody, Ticks};
use super::completion::Completion;
use super::dialects;
use super::ledger::Entry;
use super::request::ChatRequest;
use super::script::Says;
use super::{Gate, Reply};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const GARBAGE: Bytes = Bytes::from_static(b"<html>this is not JSON</html>");
const GARBAGE_EVENT: Bytes = Bytes::from_static(b"data: <html>this is not JSON</html>\n\n");

/// Replies to one request.
pub(super) async fn play(reply: Reply, request: ChatRequest, entry: Entry) -> Response<ReplyBody> {
    if let Some(gate) = &reply.held_by {
        gate.wait().await;
    }
    if !reply.delay.is_zero() {
        sleep(reply.delay).await;
    }
    let mut response = match &reply.says {
        Says::Echo => say(&reply, &request, request.echo(), entry).await,
        Says::Fields(fields) => say(&reply, &request, request.render(fields), entry).await,
        Says::Content(text) => say(&reply, &request, text.clone(), entry).await,
        Says::Status(code) => {
            let body = dialects::error(request.dialect, "the script says so", code.as_u16());
            let mut response = whole(&reply, JSON, body, entry);
            *response.status_mut() = *code;
            response
        }
        Says::Garbage if request.streams => whole(&reply, EVENTS, GARBAGE_EVENT, entry),
        Says::Garbage => whole(&reply, JSON, GARBAGE, entry),
        Says::Hang => std::future::pending().await,
    };
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Answers with a text, in the form the request asks for.
async fn say(
    reply: &Reply,
    request: &ChatRequest,
    text: String,
    entry: Entry,
) -> Response<ReplyBody> {
    let answer = Completion::new(request, entry.n(), text);
    let mut tokens = Tokens::new(reply);
    if request.streams {
        let body = ReplyBody::new(reply, |mut out| async move {
            let written = stream(&answer, &mut tokens, &entry, &mut out).await;
            entry.answered();
            written
        });
        return head(EVENTS, body);
    }
    if reply.trickle.is_none() {
        tokens.all(&answer, &entry).await;
        return whole(reply, JSON, answer.body(), entry);
    }
    let bytes = answer.body();
    let length = bytes.len();
    let body = ReplyBody::new(reply, |mut out| async move {
        tokens.all(&answer, &entry).await;
        let written = out.write(bytes).await;
        entry.answered();
        written
    });
    with_length(head(JSON, body), length)
}

async fn stream(
    answer: &Completion,
    tokens: &mut Tokens,
    entry: &Entry,
    out: &mut Out,
) -> Result<(), Cut> {
    out.write(answer.opening()).await?;
    for token in answer.tokens() {
        tokens.one(entry).await;
        out.write(answer.token(token)).await?;
    }
    tokens.end().await;
    out.write(answer.closing()).await
}

/// A response whose whole body is known.
fn whole(reply: &Reply, kind: HeaderValue, bytes: Bytes, entry: Entry) -> Response<ReplyBody> {
    let length = bytes.len();
    let body = ReplyBody::new(reply, |mut out| async move {
        let written = out.write(bytes).await;
        entry.answered();
        written
    });
    with_length(head(kind, body), length)
}

fn head(kind: HeaderValue, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn with_length(mut response: Response<ReplyBody>, length: usize) -> Response<ReplyBody> {
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// The tokens of one answer, produced one after the other.
#[derive(Debug)]
struct Tokens {
    pace: Ticks,
    pause: Option<(usize, Gate)>,
    produced: usize,
}

impl Tokens {
    fn new(reply: &Reply) -> Self {
        Self {
            pace: Ticks::new(reply.drip),
            pause: reply.pause.clone(),
            produced: 0,
        }
    }

    async fn one(&mut self, entry: &Entry) {
        self.pause_here().await;
        self.pace.tick().await;
        entry.token();
        self.produced += 1;
    }

    /// Pauses after the last token, if that is where the pause is.
    async fn end(&mut self) {
        self.pause_here().await;
    }

    async fn all(&mut self, answer: &Completion, entry: &Entry) {
        for _ in answer.tokens() {
            self.one(entry).await;
        }
        self.end().await;
    }

    async fn pause_here(&mut self) {
        if let Some((_, gate)) = self.pause.take_if(|(after, _)| *after == self.produced) {
            gate.wait().await;
            // The time at the gate was no time at work.
            self.pace.restart();
        }
    }
}
