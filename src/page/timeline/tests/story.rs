//! The stories of calls, sentence by sentence.

use super::{
    builders::many_lm_calls,
    samples::{
        all, answered_in_time, cancelled, deadline_passed, fell_back, hedged, hostile, not_stopped,
        retried, streaming, under_way, with_tools,
    },
};
use crate::{
    call::{Cost, Usd, record::timeline::CallTimeline},
    page::{timeline::story::gist, timeline_story},
};

fn lines(call: &CallTimeline) -> Vec<String> {
    let story = timeline_story(call);
    story.lines.iter().map(ToString::to_string).collect()
}

#[test]
fn a_call_that_is_answered_in_time() {
    assert_eq!(
        lines(&answered_in_time()),
        [
            "+0 ms arrived, deadline 4 s",
            "+0.3 ms Python began to run it",
            "+106.4 ms LM call 1 (openai/gpt-4o) was sent, waits for its first byte",
            "+1.900 s LM call 1 answered after 1.89 s; 812 + 31 tokens",
            "+1.950 s answered",
            "+1.9501 s settled: all its work had ended, 0.1 ms for nobody",
        ]
    );
    assert_eq!(
        timeline_story(&answered_in_time()).costs,
        [
            "LM call 1 (openai/gpt-4o): 812 tokens in, 31 out",
            "1 LM call: 843 tokens",
        ]
    );
}

#[test]
fn the_cost_of_a_call_is_in_its_story() {
    let usd = |dollars| Some(Usd::new(dollars));
    let mut call = deadline_passed();
    call.lm_calls[0].call.cost = usd(0.00123);
    let cut = &mut call.lm_calls[1].call;
    (cut.cost, cut.estimated_cost) = (usd(0.0), usd(0.00004));
    cut.estimated_tokens = 270;
    for lm in &call.lm_calls {
        call.cost.add(Cost::of(&lm.call));
    }
    call.lm_calls[0].call.estimated_cost = usd(0.0);
    assert_eq!(
        timeline_story(&call).costs,
        [
            "LM call 1 (openai/gpt-4o): 812 tokens in, 131 out, $0.00123",
            "LM call 2 (openai/gpt-4o): an estimate of 270 tokens that the provider did not count, for $0.00004",
            "2 LM calls: 943 tokens, 943 wasted on attempts without an answer, $0.00123, \
             an estimate of $0.00004 for tokens that the provider did not count, the cost of 1 LM call is unknown",
        ]
    );
}

#[test]
fn a_call_that_is_retried_twice() {
    assert_eq!(
        lines(&retried()),
        [
            "+0 ms arrived, deadline 4 s",
            "+0.3 ms Python began to run attempt 1",
            "+64.3 ms LM call 1 (openai/gpt-4o) was sent, waits for its first byte",
            "+1.000 s limit of attempt 1 passed: told to stop",
            "+1.0004 s the connection of LM call 1 was closed, 0.4 ms after the limit; \
             812 tokens in",
            "+1.004 s clean-up of attempt 1 ran 4 ms",
            "+1.100 s attempt 2 (retry) began, after 100 ms of backoff",
            "+1.1002 s Python began to run attempt 2",
            "+1.123 s LM call 2 (openai/gpt-4o) was sent, waits for its first byte",
            "+1.370 s LM call 2 answered with status 503 after 260 ms",
            "+1.380 s attempt 2 failed",
            "+1.620 s attempt 3 (retry) began, after 240 ms of backoff",
            "+1.760 s Python began to run attempt 3, after 80 ms for a permit and 60 ms in the \
             queue",
            "+1.8225 s LM call 3 (openai/gpt-4o) was sent, waits for its first byte",
            "+2.630 s LM call 3 answered after 850 ms; 812 + 31 tokens",
            "+2.640 s attempt 3 answered",
            "+2.6402 s answered",
            "+2.6404 s settled: all its work had ended, 0.2 ms for nobody",
        ]
    );
    assert_eq!(
        timeline_story(&retried()).costs.last().map(String::as_str),
        Some("3 LM calls: 1,655 tokens, 812 wasted on attempts without an answer")
    );
}

#[test]
fn a_call_whose_deadline_passes() {
    assert_eq!(
        lines(&deadline_passed())[4..],
        [
            "+3.912 s LM call 2 (openai/gpt-4o) was sent, waits for its first byte",
            "+4.000 s deadline passed: told to stop",
            "+4.0003 s timed out",
            "+4.0004 s the connection of LM call 2 was closed, 0.4 ms after the deadline",
            "+4.006 s clean-up ran 6 ms, of 250 ms that it had",
            "+4.006 s settled: all its work had ended, 5.7 ms for nobody",
        ]
    );
}

#[test]
fn a_call_that_nobody_stops() {
    let told = lines(&not_stopped());
    assert!(
        told.iter().any(|line| line == "+4.000 s deadline passed"),
        "{told:?}"
    );
    assert_eq!(
        told[told.len() - 2..],
        [
            "+9.200 s ended what it left behind: ThreadPoolExecutor-0_0, refresh_cache",
            "+9.200 s settled: all its work had ended, 5.2 s for nobody",
        ]
    );
}

#[test]
fn a_call_whose_client_goes_away() {
    assert_eq!(
        lines(&cancelled())[3..],
        [
            "+900 ms LM call 1: first content",
            "+2.100 s the client went away: told to stop",
            "+2.1002 s cancelled: client gone",
            "+2.1004 s the connection of LM call 1 was closed, 0.4 ms after cancel; \
             640 + 31 tokens",
            "+2.190 s clean-up ran 90 ms, of 500 ms that it had",
            "+2.190 s settled: all its work had ended, 89.8 ms for nobody",
        ]
    );
}

#[test]
fn a_call_that_a_hedge_answers() {
    let told = lines(&hedged());
    for line in [
        "+800 ms attempt 2 (hedge) began, beside one that is slow",
        "+1.4498 s attempt 2 answered",
        "+1.450 s another attempt answered first: attempt 1 told to stop",
        "+1.450 s answered",
        "+1.452 s clean-up of attempt 1 ran 2 ms",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
}

#[test]
fn a_call_that_a_fallback_answers() {
    let told = lines(&fell_back());
    for line in [
        "+340 ms LM call 1 answered with status 429 after 325 ms",
        "+345 ms attempt 1 failed",
        "+345.2 ms attempt 2 (fallback) began",
        "+387 ms LM call 2 (anthropic/claude-haiku) was sent, waits for its first byte",
        "+910 ms answered by a fallback",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
}

#[test]
fn a_call_that_streams_tells_its_first_content() {
    let told = lines(&streaming());
    let line = "+600 ms LM call 1: first content";
    assert!(told.iter().any(|told| told == line), "{told:?}");
}

#[test]
fn a_call_with_tools_tells_them_and_what_blocked_the_loop() {
    let told = lines(&with_tools());
    for line in [
        "+910 ms tool search began",
        "+1.400 s tool search ended after 490 ms",
        "+1.500 s its code blocks the loop: program.py:41 tokenize",
        "+2.300 s tool fetch_page failed after 890 ms",
        "+3.300 s now: tool search runs, 390 ms so far",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
    let costs = timeline_story(&with_tools()).costs;
    assert_eq!(
        costs.last().map(String::as_str),
        Some("2 LM calls: 1,898 tokens, and 12 that came after the end of their attempt")
    );
}

#[test]
fn a_call_under_way_ends_with_what_it_does_now() {
    let told = lines(&under_way());
    assert_eq!(
        told.last().map(String::as_str),
        Some("+3.300 s now: LM call 2 (openai/gpt-4o) waits for its first byte, 1.2 s so far")
    );
    let mut answered = under_way().with_answer(3000.0, crate::call::CallStatus::TimedOut);
    answered.settled = None;
    let told = lines(&answered);
    let last = told.last().map(String::as_str).unwrap_or_default();
    assert!(
        last.starts_with("+3.300 s now: work for nobody for 300 ms: LM call 2"),
        "{last}"
    );
}

#[test]
fn the_gist_says_the_outcome_and_how_long_work_went_on() {
    assert_eq!(
        gist(&not_stopped()),
        "Timed out after 4 s; deadline 4 s; 1 attempt, 3 LM calls. Work for nobody: 5.2 s."
    );
    assert_eq!(
        gist(&cancelled()),
        "Cancelled after 2.1 s: client gone; deadline 10 s; 1 attempt, 1 LM call. Work for nobody: \
         89.8 ms."
    );
}

#[test]
fn stories_are_in_the_order_of_time() {
    for (name, call) in all() {
        let story = timeline_story(&call);
        assert!(story.lines.is_sorted_by_key(|line| line.at), "{name}");
    }
}

#[test]
fn the_story_of_many_lm_calls_is_bounded_and_says_how_many_it_leaves_out() {
    let story = timeline_story(&many_lm_calls(256, 60_000.0));
    assert!(story.lines.len() < 60, "{} lines", story.lines.len());
    assert!(story.costs.len() < 30);
    let text = story.to_string();
    assert!(text.contains("232 more LM calls began from here on, not told"));
    assert!(text.contains("256 LM calls: 28,160 tokens"));
}

#[test]
fn the_story_as_json_has_its_times_in_seconds() {
    let story = serde_json::to_value(timeline_story(&hostile())).unwrap();
    assert_eq!(story["lines"][0]["at"], 0.0);
    assert_eq!(story["lines"][0]["text"], "arrived, deadline 4 s");
}
