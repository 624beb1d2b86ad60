//! The limits of a streamed answer's content under paused time.

use std::convert::Infallible;

use futures_util::stream;
use http_body_util::StreamBody;
use tokio::time::Instant;

use super::*;
use crate::lm::http::ReadTimeout;

const EVENTS: &str = "text/event-stream";

/// Events that hold nothing and events with content, as a provider sends them.
struct Dialect {
    kind: &'static str,
    empty: &'static [&'static str],
    content: &'static [&'static str],
}

const DIALECTS: [Dialect; 6] = [
    // OpenAI's chat completions, with the comments of a gateway.
    Dialect {
        kind: EVENTS,
        empty: &[
            ": OPENROUTER PROCESSING\n\n",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{}}]}\n\n",
        ],
        content: &[
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"so\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"ça\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: [DONE]\n\n",
        ],
    },
    // OpenAI's responses.
    Dialect {
        kind: "text/event-stream; charset=utf-8",
        empty: &[
            "event: response.created\ndata: {\"type\":\"response.created\"}\n\n",
            "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":3}\n\n",
        ],
        content: &[
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\"}}\n\n",
        ],
    },
    // Anthropic's messages.
    Dialect {
        kind: EVENTS,
        empty: &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        ],
        content: &[
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"so\"}}\n\n",
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\"}}\n\n",
            "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
            "data: {\"type\":\"message_stop\"}\n\n",
        ],
    },
    // Gemini.
    Dialect {
        kind: EVENTS,
        empty: &[
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"index\":0}]}\r\n\r\n",
        ],
        content: &[
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\r\n\r\n",
            "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n",
        ],
    },
    // Ollama.
    Dialect {
        kind: "application/x-ndjson",
        empty: &[
            "\n",
            "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n",
        ],
        content: &[
            "{\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n",
            "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true}\n",
        ],
    },
    // No stream.
    Dialect {
        kind: "application/json",
        empty: &["\n", "  "],
        content: &["{\"choices\":", "[]", "}"],
    },
];

type TimedPieces = Vec<(u64, &'static str)>;

/// An LM whose answer of this content type has each piece after so many milliseconds.
fn streaming(kind: &'static str, pieces: TimedPieces, limits: LmLimits) -> LmHandle {
    let (lm, _) = lm(move |_, _| {
        let pieces = stream::unfold(pieces.clone().into_iter(), |mut pieces| async {
            let (wait, piece) = pieces.next()?;
            sleep(Duration::from_millis(wait)).await;
            let frame = Frame::data(Bytes::from_static(piece.as_bytes()));
            Some((Ok::<_, Infallible>(frame), pieces))
        });
        let answer = Response::builder().header("content-type", kind);
        std::future::ready(answer.body(StreamBody::new(pieces)))
    });
    connect(&lm.limits(limits))
}

/// Each of these so many times, each after so many milliseconds.
fn each(wait: u64, pieces: &[&'static str], times: usize) -> TimedPieces {
    let all = pieces.iter().map(|piece| (wait, *piece));
    all.collect::<Vec<_>>().repeat(times)
}

async fn run(lm: &LmHandle, request: LmRequest) -> (Result<String, LmFailure>, u128) {
    let began = Instant::now();
    let done = match lm.send(request).await {
        Ok(answer) => text(answer.into_body()).await,
        Err(failure) => Err(failure),
    };
    (done, began.elapsed().as_millis())
}

fn ask() -> LmRequest {
    request(URL, "x", true)
}

async fn fails(lm: &LmHandle) -> (LmFailureKind, u128, String) {
    let (request, log) = with_log(ask());
    let (done, took) = run(lm, request).await;
    let failure = done.expect_err("it fails");
    assert_eq!(outcomes(&log), [LmOutcome::Elapsed]);
    (failure.kind(), took, failure.message().to_owned())
}

#[tokio::test(start_paused = true)]
async fn pings_and_empty_events_are_no_first_content() {
    let limits = LmLimits::new().with_first_content(3 * SECOND);
    for dialect in DIALECTS {
        let pings = each(400, dialect.empty, 20);
        let lm = streaming(dialect.kind, pings.clone(), limits.with_idle(SECOND));
        let (kind, took, message) = fails(&lm).await;
        assert_eq!((kind, took), (LmFailureKind::FirstContentTimeout, 3000));
        let empty = match dialect.kind {
            "application/json" => "the head of the answer",
            _ => "pings or empty events (7)",
        };
        assert!(
            message.contains("3s") && message.contains(empty),
            "{message}"
        );

        for content in dialect.content {
            let mut pieces = pings[..7].to_vec();
            pieces.extend([(190, *content), (5000, "")]);
            let (done, took) = run(&streaming(dialect.kind, pieces, limits), ask()).await;
            assert!(done.is_ok_and(|text| text.ends_with(content)), "{content}");
            assert_eq!(took, 2990 + 5000, "no limit after the first content");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_head_alone_has_no_first_content() {
    let limits = LmLimits::new().with_first_content(3 * SECOND);
    let lm = streaming(EVENTS, vec![(60_000, "")], limits.with_idle(SECOND));
    let (kind, took, message) = fails(&lm).await;
    assert_eq!((kind, took), (LmFailureKind::FirstContentTimeout, 3000));
    assert!(message.contains("only the head"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_earlier_limit_ends_the_wait_for_the_head() {
    for (first_byte, first_content, kind, message) in [
        (
            5,
            3,
            LmFailureKind::FirstContentTimeout,
            "within 3s: nothing came",
        ),
        (3, 5, LmFailureKind::FirstByteTimeout, "within 3s"),
        (3, 3, LmFailureKind::FirstByteTimeout, "within 3s"),
    ] {
        let (lm, _) = lm(|_, _| async {
            sleep(60 * SECOND).await;
            Ok::<_, Infallible>(Response::new(Pieces::after([])))
        });
        let limits = LmLimits::new()
            .with_first_byte(first_byte * SECOND)
            .with_first_content(first_content * SECOND);
        let (got, took, text) = fails(&connect(&lm.limits(limits))).await;
        assert_eq!((got, took), (kind, 3000));
        assert!(text.contains(message), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_until_the_head_is_part_of_the_time_until_the_first_content() {
    let (lm, _) = lm(|_, _| async {
        sleep(2 * SECOND).await;
        let pieces = Pieces::after([2 * SECOND]);
        Ok::<_, Infallible>(Response::new(pieces))
    });
    let lm = lm.limits(LmLimits::new().with_first_content(3 * SECOND));
    let (kind, took, _) = fails(&connect(&lm)).await;
    assert_eq!((kind, took), (LmFailureKind::FirstContentTimeout, 3000));
}

#[tokio::test(start_paused = true)]
async fn after_the_first_content_pings_and_empty_events_are_a_pause() {
    let limits = LmLimits::new().with_idle(SECOND);
    for dialect in &DIALECTS[..5] {
        for limits in [limits, limits.with_first_content(60 * SECOND)] {
            let mut pieces = each(900, dialect.content, 1);
            let content = pieces.len() as u128 * 900;
            pieces.extend(each(300, dialect.empty, 20));
            let lm = streaming(dialect.kind, pieces, limits);
            let (kind, took, message) = fails(&lm).await;
            assert_eq!((kind, took), (LmFailureKind::IdleTimeout, content + 1000));
            assert!(message.contains("pings or empty events (3)"), "{message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_drips_within_the_limit_is_never_ended() {
    let limits = LmLimits::new().with_idle(SECOND).with_first_content(SECOND);
    for dialect in DIALECTS {
        let pieces = each(900, dialect.content, 100);
        let count = pieces.len() as u128;
        let (done, took) = run(&streaming(dialect.kind, pieces, limits), ask()).await;
        assert!(done.is_ok());
        assert_eq!(took, count * 900);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stalls_after_content_is_ended() {
    for dialect in DIALECTS {
        for chunks in 1..4 {
            let mut pieces = each(100, &dialect.content[..1], chunks);
            pieces.push((60_000, dialect.content[0]));
            let lm = streaming(dialect.kind, pieces, LmLimits::new().with_idle(SECOND));
            let (kind, took, message) = fails(&lm).await;
            let came = 100 * chunks as u128;
            assert_eq!((kind, took), (LmFailureKind::IdleTimeout, came + 1000));
            assert!(message.ends_with("paused for longer than 1s"), "{message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_thinks_silently_is_not_idle_before_its_first_content() {
    let idle = LmLimits::new().with_idle(SECOND);
    let [openai, ..] = DIALECTS;
    // With pings, or with a limit of its own.
    let mut pings = each(900, &openai.empty[..1], 100);
    pings.extend(each(100, openai.content, 1));
    let silent = vec![(90_000, openai.content[1])];
    let patient = idle.with_first_content(120 * SECOND);
    for (pieces, limits) in [(pings, idle), (silent.clone(), patient)] {
        let (done, _) = run(&streaming(EVENTS, pieces, limits), ask()).await;
        assert!(done.is_ok_and(|text| text.contains("ça")));
    }
    // Without both a silence is a pause like any other.
    let (kind, took, _) = fails(&streaming(EVENTS, silent, idle)).await;
    assert_eq!((kind, took), (LmFailureKind::IdleTimeout, 1000));
}

#[tokio::test(start_paused = true)]
async fn pings_count_for_the_read_timeout_of_the_program() {
    let [openai, ..] = DIALECTS;
    let mut pieces = each(100, openai.content, 1);
    pieces.extend(each(900, openai.empty, 10));
    let (done, _) = run(&streaming(EVENTS, pieces, LmLimits::new()), {
        let mut request = ask();
        request.extensions_mut().insert(ReadTimeout(SECOND));
        request
    })
    .await;
    assert!(done.is_ok());
}

/// Reads so many pieces, with a rest after each in which nothing is read.
async fn read_slowly(lm: &LmHandle, pieces: usize) -> Result<Duration, LmFailure> {
    let began = Instant::now();
    let mut body = lm.send(ask()).await?.into_body();
    for _ in 0..pieces {
        let frame = body.frame().await.expect("there is more");
        frame.map_err(|error| LmFailure::of(&*error))?;
        sleep(60 * SECOND).await;
    }
    assert!(body.frame().await.is_none());
    Ok(began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_nothing_is_read_counts_for_no_limit_of_content() {
    let [openai, ..] = DIALECTS;
    let (ping, content) = (openai.empty[0], openai.content[1]);
    let limits = LmLimits::new().with_first_content(SECOND).with_idle(SECOND);
    let good = vec![
        (400, ping),
        (400, ping),
        (100, content),
        (500, ping),
        (400, content),
    ];
    assert!(
        read_slowly(&streaming(EVENTS, good, limits), 5)
            .await
            .is_ok()
    );

    // What was waited on both sides of a rest adds up.
    for (pieces, kind) in [
        (
            vec![(500, ping), (600, content)],
            LmFailureKind::FirstContentTimeout,
        ),
        (
            vec![(0, content), (500, ping), (600, content)],
            LmFailureKind::IdleTimeout,
        ),
    ] {
        let count = pieces.len();
        let lm = streaming(EVENTS, pieces, limits);
        let failure = read_slowly(&lm, count)
            .await
            .expect_err("it waits too long");
        assert_eq!(failure.kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn the_instant_of_the_first_content_is_recorded() {
    for dialect in DIALECTS {
        for limits in [LmLimits::new(), LmLimits::new().with_idle(SECOND)] {
            let mut pieces = each(900, dialect.empty, 1);
            let empty = 900 * pieces.len() as u64;
            pieces.extend(each(500, dialect.content, 2));
            let (request, log) = with_log(ask());
            let lm = streaming(dialect.kind, pieces, limits);
            assert!(run(&lm, request).await.0.is_ok());
            let first = log.calls()[0].first_content;
            assert_eq!(first, Some(Duration::from_millis(empty + 500)));
        }
        let (request, log) = with_log(ask());
        let lm = streaming(dialect.kind, each(1, dialect.empty, 1), LmLimits::new());
        assert!(run(&lm, request).await.0.is_ok(), "it ends without content");
        assert_eq!(log.calls()[0].first_content, None);
    }
}
