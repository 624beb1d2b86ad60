//! The record as a pure type: no host, no Python.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, json};
use tokio::time::{Instant, advance};

use super::{
    AttemptRecord, CallRecord, LateAnswer, LmCall, LmOutcome, Spent, Totals,
    timeline::{AttemptKind, LmCallTimeline},
};
use crate::call::{
    Budget, BudgetLimits, BudgetRefusal, CallId, CallStatus, Cause, Cost, Price, Usage, Usd,
    drop_scope, drop_scope::ReportOnDrop,
};

fn call() -> LmCall {
    LmCall::new("openai", "m", LmOutcome::Failed)
}

fn outcomes(record: &CallRecord) -> Vec<(LmOutcome, u32)> {
    let calls = |spent: &Spent| {
        let calls = spent.lm_calls.iter();
        calls
            .map(|call| (call.outcome, call.call_attempt))
            .collect()
    };
    record.read(calls)
}

#[derive(Default)]
struct Heard {
    begun: AtomicU64,
    ended: AtomicU64,
    late: AtomicU64,
}

impl Totals for Heard {
    fn lm_call_begun(&self, _: &LmCall) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn lm_call_ended(&self, _: &LmCall) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn counted_by_dspy(&self, _: &LmCall, usage: Usage, _: Cost) {
        self.ended.fetch_add(usage.total_tokens, Ordering::Relaxed);
    }

    fn answered_too_late(&self, late: LateAnswer<'_>) {
        self.late.fetch_add(late.tokens, Ordering::Relaxed);
    }

    fn abort_ended(&self, _: (&str, &str), _: bool) {}
}

#[test]
fn an_attempt_is_closed_once_and_what_comes_later_changes_no_cost() {
    let heard = Arc::new(Heard::default());
    let attempt = AttemptRecord::new(CallRecord::keeping(2), 1, Some(heard.clone()));
    let (first, second) = (attempt.begin(call()), attempt.begin(call()));
    attempt.update(first, |call| call.total_tokens = Some(21));
    attempt.end(first, LmOutcome::Answered);
    attempt.update(second, |call| call.status = Some(200));
    let closed = attempt.close(Err(Some(Cause::Elapsed)));
    let closed = closed.map(|closed| (closed.tokens, closed.partial));
    assert_eq!(closed, Some((21, false)));
    assert!(attempt.close(Err(Some(Cause::Caller))).is_none());

    assert!(!attempt.end(second, LmOutcome::Answered));
    attempt.answered_too_late(LateAnswer {
        provider: "openai",
        model: "m",
        tokens: 7,
        usd: Usd::ZERO,
    });
    attempt.end(attempt.begin(call()), LmOutcome::Failed);
    assert!(!attempt.partial(Map::new()));
    attempt.stepped(None, None);
    attempt.bypassed();

    let expected = [(LmOutcome::Answered, 1), (LmOutcome::Elapsed, 1)];
    assert_eq!(outcomes(attempt.record()), expected);
    attempt.record().read(|spent| {
        assert_eq!((spent.steps, spent.lm_calls_bypassed), (0, 0));
        assert_eq!(
            (spent.usage.total_tokens, spent.partial.is_some()),
            (21, false)
        );
        assert_eq!(spent.lm_calls[1].status, Some(200));
    });
    let heard = [&heard.begun, &heard.ended, &heard.late];
    let heard = heard.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(heard, [2, 2, 7]);
}

#[test]
fn an_lm_call_dropped_after_a_stop_has_the_outcome_of_the_stop() {
    let attempt = AttemptRecord::new(CallRecord::open(), 0, None);
    let [dropped, answered, left] = [(); 3].map(|()| attempt.begin(call()));
    attempt.stop(Cause::Elapsed, None);
    attempt.stop(Cause::Caller, None);
    attempt.end(dropped, LmOutcome::Cancelled);
    attempt.end(answered, LmOutcome::Answered);
    attempt.close(Err(Some(Cause::Caller)));
    attempt.end(left, LmOutcome::Cancelled);
    let outcomes = outcomes(attempt.record()).into_iter();
    let expected = [LmOutcome::Elapsed, LmOutcome::Answered, LmOutcome::Elapsed];
    assert_eq!(
        outcomes.map(|(outcome, _)| outcome).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn a_record_keeps_256_lm_calls_and_counts_the_tokens_of_the_others() {
    let attempt = AttemptRecord::new(CallRecord::open(), 0, None);
    for _ in 0..257 {
        let id = attempt.begin(call());
        attempt.update(id, |call| call.total_tokens = Some(5));
        attempt.end(id, LmOutcome::Answered);
    }
    attempt.record().read(|spent| {
        let kept = (spent.lm_calls.len(), spent.lm_calls_not_kept);
        assert_eq!((kept, spent.usage.total_tokens), ((256, 1), 257 * 5));
    });
}

#[test]
fn two_attempts_beside_each_other_write_into_one_record() {
    let record = CallRecord::open();
    let [first, second] = [0, 1].map(|n| AttemptRecord::new(record.clone(), n, None));
    let (one, other) = (first.begin(call()), second.begin(call()));
    second.update(other, |call| call.total_tokens = Some(5));
    second.end(other, LmOutcome::Answered);
    first.stepped(None, None);
    second.stepped(None, None);
    let closed = second.close(Ok(())).map(|closed| closed.tokens);
    assert_eq!(closed, Some(5));
    // The end of the one closes nothing of the other.
    assert!(first.partial(Map::new()) && !second.partial(Map::new()));
    first.end(one, LmOutcome::Failed);
    assert_eq!(
        first
            .close(Err(Some(Cause::Superseded)))
            .map(|closed| closed.tokens),
        Some(0)
    );
    assert_eq!(
        outcomes(&record),
        [(LmOutcome::Answered, 1), (LmOutcome::Failed, 0)]
    );
    assert_eq!(record.spent().map(|spent| spent.steps), Some(2));
}

#[test]
fn tokens_that_only_dspy_found_count_once() {
    let heard = Arc::new(Heard::default());
    let attempt = AttemptRecord::new(CallRecord::open(), 0, Some(heard.clone()));
    let exchange = |number| LmCall {
        exchange: Some(number),
        ..call()
    };
    let [read, unread] = [1, 2].map(|number| attempt.begin(exchange(number)));
    attempt.update(read, |call| call.total_tokens = Some(5));
    attempt.end(read, LmOutcome::Answered);
    attempt.end(unread, LmOutcome::Answered);
    let usage = Usage {
        total_tokens: 7,
        ..Usage::default()
    };
    for number in [1, 2, 2, 3] {
        attempt.stepped(Some(number), Some(usage));
    }
    let spent = attempt.record().spent().unwrap();
    assert_eq!((spent.usage.total_tokens, spent.steps), (5 + 7, 4));
    assert_eq!(spent.lm_calls[1].total_tokens, Some(7));
    assert_eq!(attempt.close(Ok(())).map(|closed| closed.tokens), Some(12));
    assert_eq!(heard.ended.load(Ordering::Relaxed), 2 + 7);
}

#[tokio::test(start_paused = true)]
async fn the_timeline_has_each_stage_and_the_settlement_after_the_end() {
    let second = Duration::from_secs(1);
    let record = CallRecord::open();
    advance(second).await;
    record.begin_attempt(0);
    let attempt = AttemptRecord::new(record.clone(), 0, None);
    advance(second).await;
    attempt.started();
    let id = attempt.begin(call());
    attempt.sent(id);
    advance(second).await;
    attempt.answer_begins(id, 200);
    let under_way = record.timeline().lm_calls;
    assert_eq!(under_way.len(), 1);
    let LmCallTimeline {
        call,
        is_open,
        attempt_index,
    } = &under_way[0];
    assert_eq!(*attempt_index, Some(0));
    assert!(is_open);
    // Since the arrival, and not since the attempt was queued.
    let instants = (call.started, call.sent, call.first_byte);
    assert_eq!(instants, (second * 2, Some(second * 2), Some(second * 3)));
    let drops_at = Instant::now() + second * 5;
    attempt.stop(Cause::Deadline, Some(drops_at));
    attempt.close(Err(Some(Cause::Deadline)));
    let spent = record.spent();
    advance(second).await;
    attempt.settled(&[]);
    assert_eq!(record.spent(), spent);

    let timeline = record.timeline();
    assert_eq!((timeline.attempts.len(), timeline.lm_calls.len()), (1, 1));
    let seen = &timeline.attempts[0];
    assert_eq!((seen.number, seen.begun), (0, second));
    assert_eq!(seen.queued, Some(second));
    assert_eq!(seen.started, Some(second * 2));
    assert_eq!(seen.signalled, Some(second * 3));
    assert_eq!(seen.ended, Some(second * 3));
    assert_eq!(seen.cause, Some(Cause::Deadline));
    assert_eq!(seen.grace, second * 5);
    assert_eq!(seen.settled, Some(second * 4));
    let stopped = timeline.stopped.map(|stopped| (stopped.at, stopped.cause));
    assert_eq!(stopped, Some((second * 3, Cause::Deadline)));

    let json = serde_json::to_value(&timeline).unwrap();
    let arrived = json["arrived"].as_str().unwrap();
    assert_eq!(
        humantime::parse_rfc3339(arrived)
            .unwrap()
            .duration_since(timeline.arrived - Duration::from_micros(1))
            .unwrap()
            .as_millis(),
        0
    );
    assert_eq!(json["stopped"]["at"], 3.0);
    assert_eq!(json["attempts"][0]["grace"], 5.0);
    assert_eq!(json["attempts"][0]["limit"], serde_json::Value::Null);
    assert_eq!(json["lm_calls"][0]["first_byte"], 3.0);
    assert_eq!(json["settled"], serde_json::Value::Null);
}

#[test]
fn a_retry_begins_attempts_and_a_hedge_and_a_fallback_add_others() {
    let record = CallRecord::open();
    for number in [0, 1] {
        record.begin_attempt(number);
        AttemptRecord::new(record.clone(), number, None).close(Ok(()));
    }
    record.begin_other_attempt(2, AttemptKind::Hedge);
    AttemptRecord::new(record.clone(), 2, None);
    record.begin_fallback();
    AttemptRecord::new(record.clone(), 0, None);
    let attempts = record.timeline().attempts;
    let kinds: Vec<_> = attempts.iter().map(|of| (of.number, of.kind)).collect();
    let expected = [
        (0, AttemptKind::First),
        (1, AttemptKind::Retry),
        (2, AttemptKind::Hedge),
        (0, AttemptKind::Fallback),
    ];
    assert_eq!((&kinds[..], record.attempts()), (&expected[..], 2));
}

#[test]
fn a_call_goes_on_with_the_record_of_its_first_attempt_and_adds_what_names_none() {
    let foreign = Spent {
        steps: 1,
        ..Spent::default()
    };
    let theirs = CallRecord::open();
    theirs.add(&foreign);
    let spent = theirs.spent().unwrap();

    let mut record = None;
    CallRecord::follow(&mut record, &spent);
    CallRecord::follow(&mut record, &spent);
    let mine = record.clone().unwrap();
    assert!(Arc::ptr_eq(&mine, &theirs));
    CallRecord::follow(&mut record, &foreign);
    assert_eq!(mine.spent().map(|spent| spent.steps), Some(2));

    let mut opened = None;
    CallRecord::follow(&mut opened, &foreign);
    assert_eq!(opened.unwrap().spent().map(|spent| spent.steps), Some(1));
}

#[test]
fn a_layer_that_drops_a_call_gets_the_record_of_its_attempts_once() {
    let attempt = AttemptRecord::new(CallRecord::open(), 0, None);
    attempt.partial(json!({"answer": "a draft"}).as_object().cloned().unwrap());
    attempt.stepped(None, None);
    let report = || ReportOnDrop(Some(attempt.record().clone()));
    let held = (report(), report());
    let spent = drop_scope::collect(Cause::Deadline, || drop(held)).unwrap();
    assert_eq!((spent.steps, spent.partial.is_some()), (1, true));
    assert!(drop_scope::collect(Cause::Deadline, || drop(ReportOnDrop(None))).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_is_settled_when_it_is_answered_and_no_attempt_is_at_work() {
    let second = Duration::from_secs(1);
    let record = CallRecord::open();
    let [first, second_attempt] = [0, 1].map(|n| AttemptRecord::new(record.clone(), n, None));
    first.close(Err(None));
    first.settled(&["a task".into()]);
    advance(second).await;
    assert!(record.is_at_work());
    let is_outermost = record.track(CallId::next(), None, None);
    assert!(
        record
            .leave(is_outermost, CallStatus::TimedOut, None, true)
            .is_some()
    );
    let mut settled = tokio_test::task::spawn(record.wait_settled());
    tokio_test::assert_pending!(settled.poll());
    advance(second).await;
    second_attempt.close(Err(None));
    second_attempt.settled(&[]);
    tokio_test::assert_ready!(settled.poll());
    drop(settled);

    let timeline = record.timeline();
    assert_eq!(timeline.answered.map(|answer| answer.at), Some(second));
    assert_eq!(timeline.settled, Some(second * 2));
    assert_eq!(timeline.unwanted(), second);
    assert_eq!(*timeline.attempts[0].strays[0], *"a task");
}

#[test]
fn a_record_keeps_a_bounded_number_of_attempts_that_are_over() {
    let record = CallRecord::open();
    let at_work = AttemptRecord::new(record.clone(), 0, None);
    for number in 1..100 {
        record.begin_attempt(number);
        let attempt = AttemptRecord::new(record.clone(), number, None);
        attempt.close(Err(None));
        attempt.settled(&[]);
    }
    let timeline = record.timeline();
    assert_eq!(
        (timeline.attempts.len(), timeline.attempts_not_kept),
        (32, 68)
    );
    assert_eq!((timeline.attempts[0].number, record.attempts()), (0, 100));
    at_work.settled(&[]);
    assert!(record.timeline().attempts[0].settled.is_some());
}

#[test]
fn tokens_that_dspy_counted_have_a_cost_in_place_of_the_estimate() {
    let record = CallRecord::open();
    let attempt = AttemptRecord::new(record.clone(), 0, None);
    let id = attempt.begin(LmCall {
        exchange: Some(3),
        price: Some(Arc::new(Price::per_million(1.0, 4.0))),
        cost: Some(Usd::ZERO),
        estimated_cost: Some(Usd::new(1.0)),
        estimated_tokens: 1000,
        ..call()
    });
    attempt.end(id, LmOutcome::Answered);
    assert_eq!(record.read(|spent| spent.cost.estimated_usd), Usd::new(1.0));
    let mut usage = Usage::default();
    (usage.prompt_tokens, usage.completion_tokens) = (100, 10);
    attempt.stepped(Some(3), Some(usage));
    let expected = Cost {
        usd: Usd::new(140e-6),
        ..Cost::default()
    };
    assert_eq!(record.read(|spent| spent.cost), expected);
    record.read(|spent| {
        let call = &spent.lm_calls[0];
        assert_eq!((call.cost, call.estimated_tokens), (Some(expected.usd), 0));
    });
}

#[test]
fn the_last_refusal_for_a_budget_is_kept() {
    let attempt = AttemptRecord::new(CallRecord::open(), 0, None);
    for name in ["first", "last"] {
        attempt.over_budget(BudgetRefusal {
            budget: Budget::new(BudgetLimits::new().with_name(name)),
            retry_after: None,
            unpriced: false,
        });
    }
    let kept = attempt.budget_refusal().expect("a refusal");
    assert_eq!(kept.budget.limits().name.as_deref(), Some("last"));
}
