//! The reading of a response: as a whole, or piece by piece where it is a stream.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::{
    event::{Event, ResponseHead},
    exchange::{EventSink, in_time},
};
use crate::lm::{LmClient, LmFailure, LmFailureKind, LmRequest, LmResponse};

/// Sends a request and reads the response, with at most `limit` between two pieces; returns the last
/// event.
pub(super) async fn fetch(
    client: LmClient,
    request: LmRequest,
    limit: Option<Duration>,
    sink: &EventSink,
) -> Event {
    match in_time(limit, client.oneshot(request)).await {
        Some(Ok(response)) => read(response, sink, limit).await,
        Some(Err(error)) => LmFailure::of(&*error).into(),
        None => late("no answer came in time"),
    }
}

pub(super) fn late(message: &str) -> Event {
    LmFailure::new(LmFailureKind::IdleTimeout, message).into()
}

/// The longest response that is read as a whole.
const LONGEST: usize = 64 << 20;

/// The content types of streams.
const STREAMED: [&[u8]; 4] = [
    b"text/event-stream",
    b"application/vnd.amazon.eventstream",
    b"application/x-ndjson",
    b"application/stream+json",
];

/// Reads the response, with at most `limit` between two pieces; returns its last event.
pub(super) async fn read(response: LmResponse, sink: &EventSink, limit: Option<Duration>) -> Event {
    let (parts, body) = response.into_parts();
    // All others are read as a whole: one event, one crossing.
    let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let streamed = kind.is_some_and(|kind| STREAMED.iter().any(|start| kind.starts_with(start)));
    let mut head = Some(ResponseHead::new(parts.status.as_u16(), &parts.headers));
    let mut whole = BytesMut::new();
    if streamed && let Some(head) = head.take() {
        sink.send(Event::Head(head));
    }
    let mut pieces = body.into_data_stream();
    loop {
        let data = match in_time(limit, pieces.next()).await {
            Some(Some(Ok(data))) => data,
            Some(Some(Err(error))) => return LmFailure::of(&*error).into(),
            Some(None) => break,
            None => return late("the answer paused for too long"),
        };
        if streamed {
            sink.send(Event::Chunk(data));
        } else if whole.len() + data.len() > LONGEST {
            let failure = format!("the answer is longer than {LONGEST} bytes");
            return Event::Failed("protocol", failure);
        } else {
            whole.extend_from_slice(&data);
        }
    }
    match head {
        Some(head) => Event::Full(head, whole.freeze()),
        None => Event::End,
    }
}
