//! The reading of a response: as a whole, or piece by piece where it is a stream.

use std::{pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, StreamExt, stream::Peekable};
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::{
    event::{Event, ResponseHead},
    exchange::{EventSink, in_time},
    flow::ExchangeFlow,
};
use crate::{
    call::{Cause, drop_scope},
    lm::{LmClient, LmEnd, LmFailure, LmFailureKind, LmRequest, LmResponse},
};

/// Sends a request and reads the response, with at most `limit` between two pieces; returns the last
/// event.
pub(super) async fn fetch(
    client: LmClient,
    request: LmRequest,
    limit: Option<Duration>,
    sink: &EventSink,
    flow: &ExchangeFlow,
) -> Event {
    match in_time(limit, client.oneshot(request)).await {
        Some(Ok(response)) => read(response, sink, flow, limit).await,
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

/// Pieces that have come together are one chunk, up to about this length: each costs the program a turn
/// of its loop.
const JOINED: usize = 8 << 10;

/// Appends the pieces to `data` that are there already, until they make the flow full.
///
/// A body that was polled here and has no more is polled again at once by its reader: a body that
/// waits has an idle limit, which must not run in a wait for the program.
fn join_ready<S, E>(
    mut data: Bytes,
    pieces: &mut Pin<Box<Peekable<S>>>,
    flow: &ExchangeFlow,
) -> Bytes
where
    S: Stream<Item = Result<Bytes, E>>,
{
    while data.len() < JOINED
        && !flow.is_full_with(data.len())
        && let Some(Some(Ok(more))) = pieces.as_mut().next_if(Result::is_ok).now_or_never()
    {
        let mut joined = BytesMut::from(data);
        joined.extend_from_slice(&more);
        data = joined.freeze();
    }
    data
}

/// Waits while the flow is full; returns the failure of an LM call that ends before.
async fn wait_until_read(flow: &ExchangeFlow, end: Option<LmEnd>) -> Option<(Cause, LmFailure)> {
    match in_time(end.map(LmEnd::remaining), flow.wait_until_read()).await {
        Some(()) => None,
        None => end.map(LmEnd::ended),
    }
}

/// Reads the response, with at most `limit` between two pieces; returns its last event.
///
/// The body is not polled while the flow is full. That time is no pause of the answer, but it counts
/// for the limit of a whole LM call.
pub(super) async fn read(
    response: LmResponse,
    sink: &EventSink,
    flow: &ExchangeFlow,
    limit: Option<Duration>,
) -> Event {
    let (parts, body) = response.into_parts();
    // All others are read as a whole: one event, one crossing.
    let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let streamed = kind.is_some_and(|kind| STREAMED.iter().any(|start| kind.starts_with(start)));
    let mut head = Some(ResponseHead::new(parts.status.as_u16(), &parts.headers));
    let mut whole = BytesMut::new();
    let end = parts.extensions.get::<LmEnd>().copied();
    if streamed && let Some(head) = head.take() {
        sink.send(Event::Head(head));
    }
    let mut pieces = Box::pin(body.into_data_stream().peekable());
    loop {
        if flow.is_full()
            && let Some((cause, failure)) = wait_until_read(flow, end).await
        {
            drop_scope::with(cause, || drop(pieces));
            return failure.into();
        }
        let data = match in_time(limit, pieces.next()).await {
            Some(Some(Ok(data))) => data,
            Some(Some(Err(error))) => return LmFailure::of(&*error).into(),
            Some(None) => break,
            None => return late("the answer paused for too long"),
        };
        if streamed {
            let data = join_ready(data, &mut pieces, flow);
            flow.sent(data.len());
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

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
        task::Poll,
    };

    use futures_util::stream;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::{
        sync::oneshot,
        time::{Instant, advance, sleep},
    };
    use tokio_test::{assert_pending, assert_ready, task};
    use tower::{BoxError, service_fn};

    use super::{super::flow::LIMIT, *};
    use crate::{
        call::{Carrier, Deadline, LmOutcome},
        host::core::queue::CommandQueue,
        lm::{Lm, LmBody, LmHandle, LmLimits, LmLog},
    };

    const SECOND: Duration = Duration::from_secs(1);
    const CHUNK: usize = 100 << 10;

    /// The receiver of an exchange's events, and its flow.
    struct Receiver {
        queue: Arc<CommandQueue>,
        sink: EventSink,
        flow: ExchangeFlow,
    }

    impl Receiver {
        fn new() -> Self {
            let queue = Arc::new(CommandQueue::new().expect("an eventfd"));
            Self {
                sink: EventSink::Queue(queue.clone(), 1),
                queue,
                flow: ExchangeFlow::default(),
            }
        }

        /// The bytes of the chunks that have come.
        fn chunks(&self) -> usize {
            let mut bytes = 0;
            while let Some((_, event)) = self.queue.pop_event() {
                if let Event::Chunk(chunk) = event {
                    bytes += chunk.len();
                }
            }
            bytes
        }
    }

    /// A streamed answer of these pieces.
    fn answer(pieces: impl Stream<Item = Bytes> + Send + 'static) -> LmResponse {
        let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let answer = Response::builder().header(CONTENT_TYPE, "text/event-stream");
        let body = LmBody::new(StreamBody::new(frames));
        answer.body(body).expect("a response")
    }

    fn pieces(count: usize) -> impl Stream<Item = Bytes> + Send {
        stream::repeat(Bytes::from_static(&[b'x'; CHUNK])).take(count)
    }

    /// A stream without an end that holds `held`.
    fn endless(held: oneshot::Sender<()>) -> impl Stream<Item = Bytes> + Send {
        pieces(usize::MAX).inspect(move |_| {
            let _ = &held;
        })
    }

    #[tokio::test]
    async fn no_more_of_a_streamed_answer_is_read_than_the_program_may_have_unread() {
        let receiver = Receiver::new();
        let reading = read(answer(pieces(30)), &receiver.sink, &receiver.flow, None);
        let mut reading = task::spawn(reading);
        assert_pending!(reading.poll());
        let unread = receiver.chunks();
        assert!((LIMIT..=LIMIT + CHUNK).contains(&unread), "{unread}");
        let mut whole = unread;
        receiver.flow.read(unread);
        let end = loop {
            if let Poll::Ready(end) = reading.poll() {
                break end;
            }
            let unread = receiver.chunks();
            whole += unread;
            receiver.flow.read(unread);
        };
        assert!(matches!(end, Event::End), "{end:?}");
        assert_eq!(whole + receiver.chunks(), 30 * CHUNK);
    }

    #[tokio::test]
    async fn pieces_that_have_come_together_are_one_chunk_and_a_failure_comes_after_them() {
        let receiver = Receiver::new();
        let (sent, later) = oneshot::channel::<()>();
        let at_once = |pieces: [&'static str; 2]| stream::iter(pieces.map(Ok));
        let pieces = at_once(["a", "b"])
            .chain(stream::once(async {
                let _ = later.await;
                Ok("c")
            }))
            .chain(at_once(["d", "e"]))
            .chain(stream::iter([Err(BoxError::from("cut"))]));
        let frames = pieces.map(|piece| piece.map(|piece| Frame::data(Bytes::from(piece))));
        let mut answer = answer(stream::empty());
        *answer.body_mut() = LmBody::new(StreamBody::new(frames));
        let mut reading = task::spawn(read(answer, &receiver.sink, &receiver.flow, None));
        let chunks = || {
            let events = std::iter::from_fn(|| receiver.queue.pop_event());
            let chunks = events.filter_map(|(_, event)| match event {
                Event::Chunk(chunk) => Some(chunk),
                _ => None,
            });
            chunks.collect::<Vec<_>>()
        };
        assert_pending!(reading.poll());
        assert_eq!(chunks(), ["ab"]);
        sent.send(()).expect("it is waited for");
        let end = assert_ready!(reading.poll());
        assert_eq!(chunks(), ["cde"]);
        assert!(matches!(end, Event::Failed(..)), "{end:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_read_as_a_whole_does_not_wait() {
        let receiver = Receiver::new();
        let mut whole = answer(pieces(30));
        whole.headers_mut().remove(CONTENT_TYPE);
        let mut reading = task::spawn(read(whole, &receiver.sink, &receiver.flow, None));
        let end = assert_ready!(reading.poll());
        assert!(matches!(end, Event::Full(_, body) if body.len() == 30 * CHUNK));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_full_flow_is_no_pause_of_the_answer() {
        let receiver = Receiver::new();
        let limit = Some(SECOND);
        let (sent, paused) = oneshot::channel::<()>();
        // Its end never comes.
        let pieces = pieces(3).chain(stream::once(async {
            let _ = paused.await;
            Bytes::new()
        }));
        let reading = read(answer(pieces), &receiver.sink, &receiver.flow, limit);
        let mut reading = task::spawn(reading);
        assert_pending!(reading.poll());
        advance(60 * SECOND).await;
        assert_pending!(reading.poll());
        receiver.flow.read(3 * CHUNK);
        assert!(reading.is_woken());
        assert_pending!(reading.poll());
        // From here on it is.
        advance(SECOND + SECOND / 100).await;
        let end = assert_ready!(reading.poll());
        assert!(matches!(end, Event::Failed("read_timeout", _)), "{end:?}");
        drop(sent);
    }

    /// An LM with one answer.
    fn lm(limits: LmLimits, body: LmResponse) -> LmHandle {
        let body = Arc::new(Mutex::new(Some(body)));
        let service = service_fn(move |_: LmRequest| {
            let answer = body.lock().expect("a lock").take().expect("one request");
            async move { Ok::<_, BoxError>(answer) }
        });
        let lm = Lm::new("openai/x").base_url("http://lm/v1").key("key");
        lm.http(service).limits(limits).connect().expect("an LM")
    }

    /// An LM that answers without an end, and the end of its one answer.
    fn endless_lm(limits: LmLimits) -> (LmHandle, oneshot::Receiver<()>) {
        let (held, dropped) = oneshot::channel();
        (lm(limits, answer(endless(held))), dropped)
    }

    fn request() -> LmRequest {
        let request = Request::post("http://lm/v1/chat/completions");
        request.body(Bytes::new()).expect("a request")
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_flow_is_not_idle_and_counts_for_the_limit_of_the_whole_lm_call() {
        let limits = LmLimits::new().with_idle(SECOND).with_total(60 * SECOND);
        let (lm, mut dropped) = endless_lm(limits);
        let (receiver, log) = (Receiver::new(), LmLog::default());
        let (mut request, start) = (request(), Instant::now());
        request.extensions_mut().insert(log.clone());
        let answer = lm.send(request).await.expect("an answer");
        let mut reading = task::spawn(read(answer, &receiver.sink, &receiver.flow, None));
        assert_pending!(reading.poll());
        sleep(30 * SECOND).await;
        receiver.flow.read(receiver.chunks());
        assert_pending!(reading.poll());
        assert!(dropped.try_recv().is_err() && receiver.chunks() > LIMIT);
        let end = reading.await;
        assert!(start.elapsed() >= 60 * SECOND && start.elapsed() < 61 * SECOND);
        let Event::Failed("read_timeout", message) = end else {
            panic!("{end:?}");
        };
        assert!(message.contains("its limit of 60s"), "{message}");
        assert!(dropped.await.is_err());
        assert_eq!(log.calls()[0].outcome, LmOutcome::Elapsed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_time_of_an_answer_that_pauses_at_a_full_flow_begins_once_it_is_read() {
        let (sent, later) = oneshot::channel::<()>();
        let pieces = [Bytes::from(vec![b'x'; LIMIT]), Bytes::from_static(b"y")];
        let pieces = stream::iter(pieces).chain(stream::once(async {
            let _ = later.await;
            Bytes::from_static(b"z")
        }));
        let lm = lm(LmLimits::new().with_idle(SECOND), answer(pieces));
        let (receiver, answer) = (Receiver::new(), lm.send(request()));
        let answer = answer.await.expect("an answer");
        let mut reading = task::spawn(read(answer, &receiver.sink, &receiver.flow, None));
        assert_pending!(reading.poll());
        advance(60 * SECOND).await;
        receiver.flow.read(receiver.chunks());
        assert_pending!(reading.poll());
        advance(SECOND / 2).await;
        assert_pending!(reading.poll());
        sent.send(()).expect("it is waited for");
        let end = assert_ready!(reading.poll());
        assert!(matches!(end, Event::End), "{end:?}");
        assert_eq!(receiver.chunks(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_flow_ends_with_the_deadline_of_its_lm_call() {
        let (lm, dropped) = endless_lm(LmLimits::new().with_reserve(SECOND));
        let (receiver, mut request) = (Receiver::new(), request());
        let deadline = Deadline::within(10 * SECOND);
        request.context_mut().limit(deadline);
        let answer = lm.send(request).await.expect("an answer");
        let end = read(answer, &receiver.sink, &receiver.flow, None).await;
        assert_eq!(deadline.remaining(), SECOND);
        assert!(matches!(end, Event::Failed("deadline", _)), "{end:?}");
        assert!(dropped.await.is_err());
    }
}
