//! The play of one reply: it waits, produces tokens, writes the response.
//!
//! All of it is one future and then one body, both owned by the connection. When the client goes
//! away hyper drops whichever is at work, and with it the [`RequestEntry`], which records the event.

use std::future::pending;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::sleep;

use super::Reply;
use super::body::{BodyCut, BodyWriter, Pace, ReplyBody, written_by};
use super::completion::Completion;
use super::dialects;
use super::embeddings;
use super::interlude::Interlude;
use super::ledger::RequestEntry;
use super::request::{ChatRequest, Dialect};
use super::script::ReplyKind;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const GARBAGE: Bytes = Bytes::from_static(b"<html>this is not JSON</html>");
const GARBAGE_EVENT: Bytes = Bytes::from_static(b"data: <html>this is not JSON</html>\n\n");

/// What each scripted error says.
const SCRIPTED: &str = "the script says so";

/// The content of a reply's body.
enum BodyContent {
    Bytes(Bytes),
    /// The answer, once all its tokens are produced.
    Answer(Completion),
    /// The answer, an event for each token.
    Stream(Completion),
}

/// Replies to one request.
pub(super) async fn play(
    reply: Reply,
    request: ChatRequest,
    entry: RequestEntry,
) -> Response<ReplyBody> {
    if let Some(gate) = &reply.held_by {
        gate.wait().await;
    }
    if !reply.delay.is_zero() {
        sleep(reply.delay).await;
    }
    let answer = |text| {
        let answer = Completion::new(&request, entry.n, &reply, text);
        match request.streams {
            true => (EVENTS, BodyContent::Stream(answer)),
            false => (JSON, BodyContent::Answer(answer)),
        }
    };
    let mut status = StatusCode::OK;
    let (kind, mut content) = match &reply.says {
        ReplyKind::Echo | ReplyKind::Fields(_) | ReplyKind::Content(_) if request.embeds => {
            let body = embeddings::answer(&request.model, &request.body);
            (JSON, BodyContent::Bytes(body))
        }
        ReplyKind::Echo => answer(request.echo()),
        ReplyKind::Fields(fields) => answer(request.render(fields)),
        ReplyKind::Content(text) => answer(text.clone()),
        ReplyKind::Status(code) => {
            status = *code;
            let body = dialects::error_body(request.dialect, SCRIPTED, code.as_u16());
            (JSON, BodyContent::Bytes(body))
        }
        ReplyKind::Garbage if request.streams => (EVENTS, BodyContent::Bytes(GARBAGE_EVENT)),
        ReplyKind::Garbage => (JSON, BodyContent::Bytes(GARBAGE)),
        ReplyKind::Hang => pending().await,
    };
    if let BodyContent::Answer(answer) = &content
        && reply.trickle.is_none()
    {
        // Without anything to write there is no cut.
        let _ = produce(answer, &reply, &entry, None).await;
        content = BodyContent::Bytes(answer.body());
    }
    let length = match &content {
        BodyContent::Bytes(bytes) => Some(bytes.len()),
        BodyContent::Answer(answer) => Some(answer.body().len()),
        BodyContent::Stream(_) => None,
    };
    let retry_after = reply.retry_after;
    let id_header = match request.dialect {
        Dialect::Anthropic => "request-id",
        _ => "x-request-id",
    };
    let request_id = reply.request_id.clone();
    let body = written_by(reply, |reply, mut out| async move {
        let written = content.write(&reply, &entry, &mut out).await;
        entry.answered();
        written
    });
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.extend(length.map(|length| (CONTENT_LENGTH, length.into())));
    headers.extend(retry_after.map(|seconds| (RETRY_AFTER, seconds.into())));
    headers.extend(request_id.map(|id| (HeaderName::from_static(id_header), id)));
    response
}

impl BodyContent {
    async fn write(
        self,
        reply: &Reply,
        entry: &RequestEntry,
        out: &mut BodyWriter,
    ) -> Result<(), BodyCut> {
        match self {
            Self::Bytes(bytes) => out.write(bytes).await,
            Self::Answer(answer) => {
                produce(&answer, reply, entry, None).await?;
                out.write(answer.body()).await
            }
            Self::Stream(answer) => {
                out.write(answer.opening()).await?;
                match produce(&answer, reply, entry, Some(out)).await? {
                    AnswerEnd::Whole => out.write(answer.closing()).await,
                    AnswerEnd::Error => Ok(()),
                }
            }
        }
    }
}

/// How the tokens of an answer end.
enum AnswerEnd {
    /// All were produced.
    Whole,
    /// An error came instead of the rest.
    Error,
}

/// Produces the tokens of an answer, one after the other, and writes each to `out`, with what comes
/// between them.
async fn produce(
    answer: &Completion,
    reply: &Reply,
    entry: &RequestEntry,
    mut out: Option<&mut BodyWriter>,
) -> Result<AnswerEnd, BodyCut> {
    let mut pace = Pace::new(reply.drip);
    let tokens = answer.tokens();
    for produced in 0..=tokens.len() {
        if let Some((after, gate)) = &reply.pause
            && *after == produced
        {
            gate.wait().await;
            // The time at the gate was no time at work.
            pace.restart();
        }
        for interlude in reply.interludes_after(produced) {
            match (interlude, &mut out) {
                (Interlude::Stall, _) => pending().await,
                (_, None) => {}
                (Interlude::Repeat(event, count, each), Some(out)) => {
                    let mut pace = Pace::new(*each);
                    for _ in 0..*count {
                        pace.tick().await;
                        out.write(answer.silent(*event)).await?;
                    }
                }
                (Interlude::Thinking(deltas), Some(out)) => {
                    for delta in deltas {
                        pace.tick().await;
                        out.write(answer.thought(delta)).await?;
                    }
                    out.write(answer.thought_out()).await?;
                }
                (Interlude::Garbage, Some(out)) => out.write(GARBAGE_EVENT).await?,
                (Interlude::Error(code), Some(out)) => {
                    out.write(answer.error(SCRIPTED, *code)).await?;
                    return Ok(AnswerEnd::Error);
                }
            }
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
    Ok(AnswerEnd::Whole)
}
