//! The file for Perfetto.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    builders::many_lm_calls,
    samples::{all, deadline_passed, hedged},
};
use crate::{call::record::timeline::CallTimeline, page::timeline_perfetto};

fn events(call: &CallTimeline) -> Vec<Value> {
    let file: Value = serde_json::from_str(&timeline_perfetto(call)).unwrap();
    file["traceEvents"].as_array().unwrap().clone()
}

fn named<'a>(events: &'a [Value], phase: &str, name: &str) -> &'a Value {
    let mut found = events.iter().filter(|event| event["ph"] == phase);
    found
        .find(|event| event["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {events:#?}"))
}

#[test]
fn events_have_the_fields_of_the_format_in_microseconds() {
    let events = events(&deadline_passed());
    for event in &events {
        assert_eq!(event["pid"], 1);
        assert!(event["tid"].is_u64() && event["ts"].is_number(), "{event}");
        match event["ph"].as_str().unwrap() {
            "X" => assert!(event["dur"].as_f64().unwrap() >= 0.0 && event["cat"].is_string()),
            "i" => assert!(["t", "g"].contains(&event["s"].as_str().unwrap())),
            "M" => assert!(event["args"].is_object()),
            other => panic!("an event of phase {other}"),
        }
    }
    assert_eq!(named(&events, "M", "process_name")["args"]["name"], "qa");
    let call = named(&events, "X", "qa");
    assert_eq!(
        (&call["ts"], &call["dur"]),
        (&0.0.into(), &4_006_000.0.into())
    );
    let waits = named(
        &events,
        "X",
        "LM call 2 (openai/gpt-4o) waits for its first byte",
    );
    assert_eq!(waits["ts"], 3_912_000.0);
    assert_eq!(waits["dur"], 88_400.0);
    assert_eq!(named(&events, "i", "deadline +4.000 s")["ts"], 4_000_000.0);
}

#[test]
fn each_thread_has_a_name_and_slices_that_do_not_overlap() {
    for (name, call) in all() {
        let events = events(&call);
        let mut threads: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
        for event in events.iter().filter(|event| event["ph"] == "X") {
            let begin = event["ts"].as_f64().unwrap();
            let end = begin + event["dur"].as_f64().unwrap();
            threads
                .entry(event["tid"].as_u64().unwrap())
                .or_default()
                .push((begin, end));
        }
        let is_named = |tid: u64| {
            let mut names = events.iter().filter(|event| event["name"] == "thread_name");
            names.any(|event| event["tid"] == tid)
        };
        for (tid, mut slices) in threads {
            assert!(is_named(tid), "{name}: thread {tid} has no name");
            slices.sort_by(|a, b| a.0.total_cmp(&b.0));
            for pair in slices.windows(2) {
                assert!(
                    pair[0].1 <= pair[1].0 + 1e-3,
                    "{name}: thread {tid}: {pair:?}"
                );
            }
        }
    }
}

#[test]
fn attempts_beside_each_other_are_on_threads_of_their_own() {
    let events = events(&hedged());
    let python =
        |attempt: &str| named(&events, "X", &format!("{attempt} in Python"))["tid"].clone();
    assert_ne!(python("attempt 1"), python("attempt 2 (hedge)"));
}

#[test]
fn all_lm_calls_of_a_record_are_in_the_file() {
    let events = events(&many_lm_calls(256, 60_000.0));
    let threads = events.iter().filter(|event| event["name"] == "thread_name");
    let names = threads.filter_map(|event| event["args"]["name"].as_str());
    assert_eq!(names.filter(|name| name.starts_with("LM ")).count(), 256);
}
