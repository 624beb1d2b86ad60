//! The reading of a response: as a whole, or piece by piece where it is a stream.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt};

use super::{
    event::{Event, ExchangeFailure, ResponseHead},
    exchange::EventSink,
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
    let answer = in_time(limit, async {
        let mut client = client;
        client.ready().await?.call(request).await
    });
    match answer.await {
        Some(Ok(response)) => read(response, sink, limit).await,
        Some(Err(error)) => failed(&error),
        None => late("no answer came in time"),
    }
}

async fn in_time<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(work.await),
        Some(limit) => timeout(limit, work).await.ok(),
    }
}

fn failed(error: &BoxError) -> Event {
    Event::Failed(ExchangeFailure::Lm(LmFailure::of(&**error)))
}

pub(super) fn late(message: &str) -> Event {
    let failure = LmFailure::new(LmFailureKind::IdleTimeout, message);
    Event::Failed(ExchangeFailure::Lm(failure))
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
    let (parts, mut body) = response.into_parts();
    // All others are read as a whole: one event, one crossing.
    let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let streamed = kind.is_some_and(|kind| STREAMED.iter().any(|start| kind.starts_with(start)));
    let mut head = Some(ResponseHead {
        status: parts.status.as_u16(),
        headers: parts.headers,
    });
    let mut whole = BytesMut::new();
    if streamed && let Some(head) = head.take() {
        sink.send(Event::Head(head));
    }
    loop {
        let Some(frame) = in_time(limit, body.frame()).await else {
            return late("the answer paused for too long");
        };
        let data = match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            None => break,
            Some(Ok(Ok(data))) => data,
            Some(Ok(Err(_trailers))) => continue,
            // The handle's bodies fail with a boxed `LmFailure`.
            Some(Err(error)) => match error.downcast::<LmFailure>() {
                Ok(failure) => return Event::Failed(ExchangeFailure::Lm(*failure)),
                Err(other) => return failed(&other),
            },
        };
        if streamed {
            sink.send(Event::Chunk(data));
        } else if whole.len() + data.len() > LONGEST {
            let failure = format!("the answer is longer than {LONGEST} bytes");
            return Event::Failed(ExchangeFailure::Body(failure));
        } else {
            whole.extend_from_slice(&data);
        }
    }
    match head {
        Some(head) => Event::Full(head, whole.freeze()),
        None => Event::End,
    }
}
