//! The picture of a call: what is in bounds, what does not overlap, what is escaped.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    builders::{attempt, call, lm, many_lm_calls, ms},
    samples::{all, hostile, under_way},
};
use crate::{
    call::{
        CallStatus, Cause, LmOutcome,
        record::timeline::{AttemptKind, CallTimeline},
    },
    page::{
        timeline::{
            drawing::{Drawing, LEFT, RIGHT, WIDTH},
            label::{fitted, width},
            row_svg::{bar_places, row_label},
            rows::rows,
            scale::{Scale, shown_until},
            selection::MostRows,
            stages::attempt_of,
            verticals::{VerticalKind, verticals},
        },
        timeline_svg,
    },
};

fn scale(call: &CallTimeline) -> Scale {
    Scale::new(shown_until(call), LEFT, RIGHT)
}

/// Fails if something of the picture is out of place.
fn check(call: &CallTimeline) {
    let scale = scale(call);
    let rows = rows(call, MostRows::PICTURE);
    for row in &rows {
        let places: Vec<_> = row
            .bars
            .iter()
            .map(|bar| bar_places(&scale, bar.span))
            .collect();
        for (from, to) in &places {
            assert!(
                *from >= LEFT && *to <= WIDTH && from < to,
                "{from}..{to}: {row:?}"
            );
        }
        let spans: Vec<_> = row.bars.iter().map(|bar| bar.span).collect();
        for pair in spans.windows(2) {
            assert!(pair[0].to <= pair[1].from, "bars overlap: {row:?}");
        }
        let Some(label) = row_label(&scale, row) else {
            continue;
        };
        let (from, to) = (label.x, label.x + width(&label.text));
        assert!(from >= LEFT && to <= WIDTH, "{label:?} leaves the picture");
        let is_clear = |(bar_from, bar_to): &(f64, f64)| to <= *bar_from || from >= *bar_to;
        let is_within = |(bar_from, bar_to): &(f64, f64)| from >= *bar_from && to <= *bar_to;
        if label.inside.is_some() {
            assert!(
                places.iter().any(is_within),
                "{label:?} leaves its bar: {row:?}"
            );
        } else {
            assert!(
                places.iter().all(is_clear),
                "{label:?} covers a bar: {row:?}"
            );
        }
    }
    let lines = verticals(call);
    assert!(lines.is_sorted_by_key(|line| line.at));
    let drawing = Drawing::new(scale, lines.len(), rows.len(), "key");
    let flags: Vec<_> = drawing.flags(&lines).collect();
    for (line, flag) in lines.iter().zip(&flags) {
        let from = flag.text_x - width(&line.label);
        assert!(
            from >= 0.0 && flag.text_x <= WIDTH,
            "{} leaves the picture",
            line.label
        );
        assert!(flag.x >= LEFT && flag.x <= RIGHT);
    }
    for pair in flags.windows(2) {
        assert!(pair[0].y - pair[1].y >= 12.0, "labels of lines overlap");
    }
}

#[test]
fn bars_and_labels_are_in_the_picture_and_do_not_overlap() {
    for (name, call) in all() {
        println!("{name}");
        check(&call);
    }
}

/// A call whose instants make no sense.
fn scattered(unit: f64, times: &[u32], ends: [bool; 4]) -> CallTimeline {
    let at = |index: usize| f64::from(times[index % times.len()]) * unit;
    let mut timeline = call(at(0));
    timeline.deadline = ends[0].then(|| ms(at(1)));
    if ends[1] {
        timeline = timeline.with_answer(at(2), CallStatus::TimedOut);
        timeline.settled = ends[2].then(|| ms(at(2).max(at(3))));
    }
    for index in 0..times.len() / 6 {
        let kinds = [
            AttemptKind::First,
            AttemptKind::Retry,
            AttemptKind::Hedge,
            AttemptKind::Fallback,
        ];
        let begun = at(index * 6);
        let mut one = attempt(index as u32, kinds[index % 4], begun);
        one.queued = (index % 5 != 0).then(|| ms(begun + at(index * 6 + 1)));
        one.started = one.queued.map(|queued| queued + ms(at(index * 6 + 2)));
        if ends[3] {
            one.limit = Some(ms(at(index * 6 + 3)));
            one = one.stopped(
                begun + at(index + 4),
                Cause::Elapsed,
                begun + at(index * 6 + 5),
            );
            one.grace = ms(at(index));
        }
        timeline = timeline.with_attempt(one);
        let started = at(index * 6 + 4);
        let exchange = lm(started, started + at(index * 6 + 5), LmOutcome::Answered);
        let exchange = exchange.content(at(index)).for_attempt(index as u32);
        let exchange = if index % 3 == 0 {
            exchange.open()
        } else {
            exchange
        };
        timeline = timeline.with_lm_call(exchange);
    }
    timeline
}

#[test]
fn a_hedge_whose_waits_are_short_has_no_label_on_another_bar() {
    let times = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 419, 993, 8, 0, 63];
    check(&scattered(0.002, &times, [false, false, false, true]));
}

proptest! {
    #[test]
    fn any_instants_give_a_picture_in_bounds(
        unit in prop::sample::select(vec![0.002, 1.0, 700.0]),
        times in prop::collection::vec(0_u32..1000, 12..60),
        ends in any::<[bool; 4]>(),
    ) {
        let timeline = scattered(unit, &times, ends);
        check(&timeline);
        check_tags(&timeline_svg(&timeline));
    }

    #[test]
    fn the_scale_keeps_the_order_of_instants_and_stays_in_bounds(
        end in 0_u64..u64::MAX,
        mut instants in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let scale = Scale::new(Duration::from_nanos(end), LEFT, RIGHT);
        instants.sort_unstable();
        let places = instants.iter().map(|at| scale.x(Duration::from_nanos(*at)));
        let places: Vec<_> = places.collect();
        prop_assert!(places.is_sorted());
        prop_assert!(places.iter().all(|place| (LEFT..=RIGHT).contains(place)));
    }

    #[test]
    fn ticks_are_few_and_their_labels_do_not_overlap(end in 1_u64..u64::MAX) {
        let scale = Scale::new(Duration::from_nanos(end), LEFT, RIGHT);
        let ticks = scale.ticks(8);
        prop_assert!((2..=9).contains(&ticks.len()), "{ticks:?}");
        for pair in ticks.windows(2) {
            let half = (width(&pair[0].label) + width(&pair[1].label)) / 2.0;
            prop_assert!(pair[1].x - pair[0].x > half, "{ticks:?}");
        }
    }

    #[test]
    fn a_shortened_label_fits(text in ".{0,80}", most in 20.0..400.0_f64) {
        prop_assert!(width(&fitted(&text, most)) <= most);
    }
}

#[test]
fn the_deadline_the_answer_and_the_settlement_are_lines_in_their_order() {
    let call = super::samples::deadline_passed();
    let kinds: Vec<_> = verticals(&call).iter().map(|line| line.kind).collect();
    assert_eq!(
        kinds,
        [
            VerticalKind::Deadline,
            VerticalKind::Answered,
            VerticalKind::Settled
        ]
    );
    let open = super::samples::under_way();
    let kinds: Vec<_> = verticals(&open).iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [VerticalKind::Now, VerticalKind::Deadline]);
}

#[test]
fn an_attempt_that_goes_on_after_its_call_was_dropped_is_under_way() {
    let mut call = under_way().with_answer(2500.0, CallStatus::TimedOut);
    call.answered.as_mut().unwrap().dropped = true;
    let rows = rows(&call, MostRows::PICTURE);
    let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    assert_eq!(row("attempt 1").label, "under way for 3.3 s");
    assert!(row("attempt 1").bars.last().unwrap().span.is_open);
    assert_eq!(row("work for nobody").label, "800 ms so far");
}

#[test]
fn a_deadline_that_is_far_away_is_named_and_not_drawn() {
    let svg = timeline_svg(&super::samples::cancelled());
    assert!(svg.contains("deadline +10.000 s →"));
}

#[test]
fn of_256_lm_calls_the_first_and_the_last_are_shown_and_the_others_counted() {
    let call = many_lm_calls(256, 60_000.0);
    let names: Vec<_> = rows(&call, MostRows::PICTURE)
        .into_iter()
        .map(|row| row.name)
        .collect();
    let lm_rows = names.iter().filter(|name| name.starts_with("LM "));
    assert_eq!(lm_rows.count(), 24);
    for name in [
        "LM 1 gpt-4o",
        "LM 12 gpt-4o",
        "… 232 more LM calls",
        "LM 245 gpt-4o",
        "LM 256 gpt-4o",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    assert!(timeline_svg(&call).len() < 100_000);
}

#[test]
fn hostile_names_are_escaped_and_pictures_need_neither_scripts_nor_styles() {
    for (name, call) in all().into_iter().chain([("hostile", hostile())]) {
        let svg = timeline_svg(&call);
        check_tags(&svg);
        for forbidden in [
            "<script",
            " style=",
            "<style",
            " on",
            "javascript:",
            "\u{1b}",
        ] {
            let found = svg.match_indices(forbidden).map(|(at, _)| at);
            // A word in a text is no attribute.
            let in_tag = |at: &usize| svg[..*at].rfind('<') > svg[..*at].rfind('>');
            let mut found = found.filter(|at| forbidden.starts_with(['<', '\u{1b}']) || in_tag(at));
            assert_eq!(found.next(), None, "{name}: {forbidden}");
        }
        let links = svg.matches("http").count();
        assert_eq!(links, 1, "{name} names more than the namespace of SVG");
    }
}

/// Fails if a tag of an SVG is not closed in its place.
fn check_tags(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag has an end");
        assert!(!text.contains('>'), "not escaped: {text}");
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "in {svg}"),
            None => open.push(tag.split(' ').next().unwrap_or_default()),
        }
    }
    assert!(open.is_empty(), "{open:?} is not closed");
}

#[test]
fn an_lm_call_has_its_own_attempt_where_two_have_one_number() {
    // A hedge within a retry: each counts its attempts by itself.
    let hedge = attempt(1, AttemptKind::Hedge, 300.0).stopped(600.0, Cause::Elapsed, 601.0);
    let mut of_retry = lm(710.0, 980.0, LmOutcome::Answered)
        .content(900.0)
        .for_attempt(1);
    of_retry.attempt_index = Some(2);
    let timeline = call(1100.0)
        .with_answer(1000.0, CallStatus::Completed)
        .with_settlement(1000.0)
        .with_attempt(attempt(0, AttemptKind::First, 0.0).stopped(600.0, Cause::Elapsed, 601.0))
        .with_attempt(hedge)
        .with_attempt(attempt(1, AttemptKind::Retry, 700.0).answered(1000.0))
        .with_lm_call(of_retry);
    let found = attempt_of(&timeline, &timeline.lm_calls[0]);
    assert_eq!(
        found.map(|(at, attempt)| (at, attempt.kind)),
        Some((2, AttemptKind::Retry))
    );
}
