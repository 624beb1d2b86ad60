//! The play of one reply: it waits, produces tokens, writes the response.
//!
//! All of it is one future and then one body, both owned by the connection. When the client goes
//! away hyper drops whichever is at work, and with it the [`Entry`], which records the event.

use std::future::pending;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use tokio::time::sleep;

use super::Reply;
use super::body::{Cut, Out, ReplyBody, Ticks, written_by};
use super::completion::Completion;
use super::dialects;
use super::ledger::Entry;
use super::request::ChatRequest;
use super::script::Says;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const GARBAGE: Bytes = Bytes::from_static(b"<html>this is not JSON</html>");
const GARBAGE_EVENT: Bytes = Bytes::from_static(b"data: <html>this is not JSON</html>\n\n");

/// The content of a reply's body.
enum ReplyContent {
    Bytes(Bytes),
    /// The answer, once all its tokens are produced.
    Answer(Completion),
    /// The answer, an event for each token.
    Stream(Completion),
}

/// Replies to one request.
pub(super) async fn play(reply: Reply, request: ChatRequest, entry: Entry) -> Response<ReplyBody> {
    if let Some(gate) = &reply.held_by {
        gate.wait().await;
    }
    if !reply.delay.is_zero() {
        sleep(reply.delay).await;
    }
    let answer = |text| {
        let answer = Completion::new(&request, entry.n, text);
        match request.streams {
            true => (EVENTS, ReplyContent::Stream(answer)),
            false => (JSON, ReplyContent::Answer(answer)),
        }
    };
    let mut status = StatusCode::OK;
    let (kind, mut content) = match &reply.says {
        Says::Echo => answer(request.echo()),
        Says::Fields(fields) => answer(request.render(fields)),
        Says::Content(text) => answer(text.clone()),
        Says::Status(code) => {
            status = *code;
            let body = dialects::error(request.dialect, "the script says so", code.as_u16());
            (JSON, ReplyContent::Bytes(body))
        }
        Says::Garbage if request.streams => (EVENTS, ReplyContent::Bytes(GARBAGE_EVENT)),
        Says::Garbage => (JSON, ReplyContent::Bytes(GARBAGE)),
        Says::Hang => pending().await,
    };
    if let ReplyContent::Answer(answer) = &content
        && reply.trickle.is_none()
    {
        // Without anything to write there is no cut.
        let _ = produce(answer, &reply, &entry, None).await;
        content = ReplyContent::Bytes(answer.body());
    }
    let length = match &content {
        ReplyContent::Bytes(bytes) => Some(bytes.len()),
        ReplyContent::Answer(answer) => Some(answer.body().len()),
        ReplyContent::Stream(_) => None,
    };
    let retry_after = reply.retry_after;
    let body = written_by(reply, |reply, out| write(content, reply, entry, out));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.extend(length.map(|length| (CONTENT_LENGTH, length.into())));
    headers.extend(retry_after.map(|seconds| (RETRY_AFTER, seconds.into())));
    response
}

/// Writes a body, and records that the request is answered.
async fn write(content: ReplyContent, reply: Reply, entry: Entry, mut out: Out) -> Result<(), Cut> {
    let written = async {
        match content {
            ReplyContent::Bytes(bytes) => out.write(bytes).await,
            ReplyContent::Answer(answer) => {
                produce(&answer, &reply, &entry, None).await?;
                out.write(answer.body()).await
            }
            ReplyContent::Stream(answer) => {
                out.write(answer.opening()).await?;
                produce(&answer, &reply, &entry, Some(&mut out)).await?;
                out.write(answer.closing()).await
            }
        }
    };
    let written = written.await;
    entry.answered();
    written
}

/// Produces the tokens of an answer, one after the other, and writes each to `out`.
async fn produce(
    answer: &Completion,
    reply: &Reply,
    entry: &Entry,
    mut out: Option<&mut Out>,
) -> Result<(), Cut> {
    let mut pace = Ticks::new(reply.drip);
    let tokens = answer.tokens();
    for produced in 0..=tokens.len() {
        if let Some((after, gate)) = &reply.pause
            && *after == produced
        {
            gate.wait().await;
            // The time at the gate was no time at work.
            pace.restart();
        }
        let Some(token) = tokens.get(produced) else {
            break;
        };
        pace.tick().await;
        entry.token();
        if let Some(out) = &mut out {
            out.write(answer.token(token)).await?;
        }
    }
    Ok(())
}
