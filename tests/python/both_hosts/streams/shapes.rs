//! Programs of all shapes, and what of them is streamed.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{
    Classify, ErrorKind, PredictRequest, StreamingService,
    testing::scripted_lm::{Gate, Reply, RequestRecord},
};

use super::reading::{Reading, is_well_after, read};
use crate::support::{ask, host, lm_server, load, open, question};

async fn answered(program: StreamingService, request: PredictRequest) -> Reading {
    let read = read(program.oneshot(request).await.unwrap()).await;
    read.prediction();
    read
}

#[tokio::test]
async fn two_lm_calls_of_one_predictor_at_once_are_told_apart() {
    let (host, lm) = (host().await, lm_server().await);
    let replies = ["one", "two"].map(|word| Reply::answer(format!("{word} {word} {word}")));
    lm.script("stream-twice", replies);
    let program = load(&host, "streams:Twice", "stream-twice").await;
    let read = answered(program.streaming(), ask("?")).await;
    let mut texts = [read.text(1, "answer"), read.text(2, "answer")];
    // Where the program answers with the one, the text of the last is replaced by it.
    assert!(texts.contains(&read.answer().as_str().unwrap()), "{read:?}");
    for (lm_call, _, before) in &read.replaced {
        texts[*lm_call as usize - 1] = before;
    }
    texts.sort_unstable();
    assert_eq!(texts, ["one one one", "two two two"]);
    assert_eq!(read.predictors.len(), 2);
    assert_eq!(lm.requests("stream-twice").len(), 2);
}

#[tokio::test]
async fn a_sync_program_is_streamed_with_its_statuses() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script("stream-sync", Reply::echo().held_by(&gate));
    for target in ["streams:Sync", "streams:Nested"] {
        let program = load(&host, target, "stream-sync").await;
        let mut stream = program.streaming().oneshot(ask("why?")).await.unwrap();
        let mut read = Reading::default();
        // Before the LM has begun.
        assert!(read.next(&mut stream).await);
        assert_eq!(read.statuses, ["asking"]);
        gate.open();
        let read = read.rest(stream).await;
        assert_eq!(read.answer(), "You said: why?");
        assert_eq!(read.text(1, "answer"), "You said: why?");
        assert_eq!(read.text(1, "reasoning"), "You said: why?");
        let predictor = if target.ends_with("Sync") {
            "ask.predict"
        } else {
            "inner.ask.predict"
        };
        assert_eq!(read.predictors[&1], predictor);
    }
}

#[tokio::test]
async fn lm_calls_on_threads_of_dspy_are_streamed_at_once() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-parallel", Reply::echo());
    let program = load(&host, "streams:Parallel", "stream-parallel").await;
    let read = answered(program.streaming(), ask("?")).await;
    assert_eq!(read.answer(), "You said: ? one");
    let mut texts: Vec<_> = (1..=3).map(|n| read.text(n, "answer").to_owned()).collect();
    for (lm_call, _, before) in &read.replaced {
        texts[*lm_call as usize - 1].clone_from(before);
    }
    texts.sort();
    let expected = ["one", "three", "two"].map(|name| format!("You said: ? {name}"));
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn only_chosen_fields_are_streamed_and_their_lm_calls_alone() {
    let (host, lm) = (host().await, lm_server().await);
    let both = [("draft", "a draft"), ("answer", "an answer")];
    lm.script("stream-chosen", Reply::fields(both));
    let program = load(&host, "streams:Drafts", "stream-chosen").await;
    let streamed = |from: usize| {
        let requests = lm.requests("stream-chosen");
        let streamed = requests[from..].iter().map(|r| r.body["stream"] == true);
        streamed.collect::<Vec<_>>()
    };

    // The text of the outputs, of which the program's signature tells no names: all text.
    let usual = answered(program.streaming(), ask("?")).await;
    assert_eq!(usual.text(1, "draft"), "a draft");
    assert_eq!(streamed(0), [true, true]);

    let final_only = program.streaming().stream_fields([("final", "answer")]);
    let read = answered(final_only.unwrap(), ask("?")).await;
    assert_eq!(streamed(2), [false, true]);
    assert_eq!(read.predictors.values().collect::<Vec<_>>(), ["final"]);
    // What the program makes of the LM's text is its answer.
    assert_eq!(read.text(1, "answer"), "AN ANSWER");
    assert_eq!(read.replaced, [(1, "answer".into(), "an answer".into())]);
    assert_eq!(read.answer(), "AN ANSWER");

    let draft_only = program.streaming().stream_fields([("draft", "draft")]);
    let read = answered(draft_only.unwrap(), ask("?")).await;
    assert_eq!(streamed(4), [true, false]);
    assert_eq!(read.text(1, "draft"), "a draft");
    assert_eq!(read.texts.len(), 1);

    let none = program
        .streaming()
        .stream_fields(Vec::<(String, String)>::new());
    let read = answered(none.unwrap(), ask("?")).await;
    assert_eq!(streamed(6), [false, false]);
    assert_eq!(read.events, 1, "{read:?}");

    for unknown in [("final", "draft"), ("nobody", "answer")] {
        let refused = program.streaming().stream_fields([unknown]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        let message = refused.to_string();
        assert!(
            message.contains(unknown.0) || message.contains(unknown.1),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_program_without_text_of_an_lm_has_one_event() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-quiet", Reply::fields([("count", "7")]));
    let program = load(&host, "streams:Quiet", "stream-quiet").await;
    let read = answered(program.streaming(), ask("?")).await;
    assert_eq!((read.answer(), read.events), (&json!("7"), 1), "{read:?}");
    let requests = lm.requests("stream-quiet");
    assert!(
        requests[0]
            .body
            .get("stream")
            .is_none_or(|stream| stream == false)
    );
}

#[tokio::test]
async fn an_answer_that_does_not_parse_is_taken_back_for_the_next_lm_call() {
    let (host, lm) = (host().await, lm_server().await);
    // No adapter for chat reads the number.
    let chat = "[[ ## answer ## ]]\nfour\n\n[[ ## count ## ]]\nmany\n\n[[ ## completed ## ]]";
    let json = json!({"answer": "4", "count": 4}).to_string();
    lm.script(
        "stream-fallback",
        [Reply::content(chat), Reply::content(json)],
    );
    let program = load(&host, "streams:InFormat", "stream-fallback").await;
    let request = || PredictRequest::new(json!({"question": "?", "adapter": "ChatAdapter"}));
    let read = answered(program.streaming(), request()).await;
    assert_eq!(read.restarts, [1]);
    assert_eq!((read.text(1, "answer"), read.text(2, "answer")), ("", "4"));
    assert_eq!(read.answer(), "4");
    assert_eq!(lm.requests("stream-fallback").len(), 2);
}

#[tokio::test]
async fn the_copies_of_a_predictor_have_its_name() {
    let (host, lm) = (host().await, lm_server().await);
    let answers = ["a", "the longest", "abc"].map(Reply::answer);
    lm.script("stream-best", answers);
    let program = load(&host, "streams:Best", "stream-best").await;
    let read = answered(program.streaming(), ask("?")).await;
    assert_eq!(read.answer(), "the longest");
    assert_eq!(read.predictors.len(), 3);
    let names: Vec<_> = read.predictors.values().collect();
    assert_eq!(names, ["best.module"; 3]);
    // The text of the last is the answer in the end.
    assert_eq!(read.text(2, "answer"), "the longest");
    assert_eq!(read.text(3, "answer"), "the longest");
}

#[tokio::test]
async fn an_answer_that_is_refined_is_streamed_each_time() {
    let (host, lm) = (host().await, lm_server().await);
    let advice = json!({"ask": "N/A", "self": "longer"}).to_string();
    let advice = Reply::fields([("discussion", "too short"), ("advice", &*advice)]);
    let replies = [Reply::answer("a"), advice, Reply::answer("long enough")];
    lm.script("stream-refined", replies);
    let program = load(&host, "streams:Refined", "stream-refined").await;
    let read = answered(program.streaming(), ask("?")).await;
    assert_eq!(read.answer(), "long enough");
    let texts: Vec<_> = read
        .texts
        .iter()
        .filter(|((_, field), _)| field == "answer")
        .collect();
    assert_eq!(texts.len(), 2, "{read:?}");
    assert_eq!(texts[1].1, "long enough");
}

#[tokio::test]
async fn of_several_answers_of_an_lm_the_first_is_streamed() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-several", Reply::answer("one of two"));
    let program = load(&host, "streams:Several", "stream-several").await;
    let read = answered(program.streaming(), ask("?")).await;
    assert_eq!(read.answer(), "one of two");
    assert_eq!(read.text(1, "answer"), "one of two");
    is_well_after(&program, "stream-several", 0, ask("?")).await;
}

#[tokio::test]
async fn a_program_that_fails_after_its_lm_has_the_text_as_its_partial_answer() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-raises-after", Reply::answer("of no use"));
    let program = load(&host, "streams:RaisesAfter", "stream-raises-after").await;
    let read = read(program.streaming().oneshot(ask("?")).await.unwrap()).await;
    assert_eq!(read.error().kind(), ErrorKind::Program);
    assert_eq!(read.text(1, "answer"), "of no use");
    assert_eq!(read.partial(), json!({"answer": "of no use"}));
}

#[tokio::test]
async fn plain_calls_and_streams_of_one_program_do_not_disturb_each_other() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-mixed", Reply::echo());
    let program = question(&host, "stream-mixed").await;
    let (plain, streamed) = tokio::join!(
        program.clone().oneshot(ask("one")),
        answered(program.streaming(), ask("two")),
    );
    assert_eq!(plain.unwrap().outputs["answer"], "You said: one");
    assert_eq!(streamed.text(1, "answer"), "You said: two");
    let mut streams: Vec<_> = lm
        .requests("stream-mixed")
        .iter()
        .map(|r| r.body["stream"] == true)
        .collect();
    streams.sort_unstable();
    assert_eq!(streams, [false, true]);
}

#[tokio::test]
async fn an_lm_call_in_a_loop_of_the_program_is_streamed() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-own-loop", Reply::echo());
    let program = load(&host, "streams:OwnLoop", "stream-own-loop").await;
    let read = answered(program.streaming(), ask("?")).await;
    assert_eq!(read.text(1, "answer"), "You said: ?");
    assert!(read.deltas > 0 && read.replaced.is_empty());
}

#[tokio::test]
async fn statuses_are_read_in_their_order_around_the_text() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stream-reports", Reply::echo());
    let program = load(&host, "streams:Reports", "stream-reports").await;
    let read = answered(program.streaming(), ask("?")).await;
    let steps = (0..2000).map(|n| format!("step {n}"));
    let last = read.statuses.last().unwrap();
    assert!(last.ends_with(" done"), "{last}");
    assert!(read.statuses[..2000].iter().eq(&steps.collect::<Vec<_>>()));
    assert_eq!(read.statuses.len(), 2001);
}

#[tokio::test]
async fn an_lm_call_that_is_left_behind_ends_with_its_call() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script(
        "stream-leaves",
        [Reply::echo(), Reply::echo().stall_after(8)],
    );
    let program = load(&host, "streams:Leaves", "stream-leaves").await;
    let request = || PredictRequest::new(json!({"key": "stream-leaves", "question": "?"}));
    let (read, ()) = tokio::join!(answered(program.streaming(), request()), async {
        let begun = |all: &[RequestRecord]| all.get(1).is_some_and(|r| r.tokens == 8);
        let second = lm.wait_for("stream-leaves", begun);
        second.await.unwrap();
        open(&host, "stream-leaves").await;
    });
    assert_eq!(read.answer(), "You said: ?");
    is_well_after(&program, "stream-leaves", 1, request()).await;
}
