//! Tests of the reading and the writing of traces.

use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(*name, HeaderValue::try_from(*value).unwrap());
    }
    headers
}

fn state_of(tracestate: &str) -> String {
    let trace = TraceContext::parse(PARENT, tracestate).unwrap();
    trace.tracestate().to_owned()
}

#[test]
fn a_traceparent_is_read_and_written() {
    let trace = TraceContext::parse(PARENT, "a=1").unwrap();
    assert_eq!(
        trace.trace_id().to_string(),
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
    assert_eq!(trace.parent_id().to_string(), "00f067aa0ba902b7");
    assert!(trace.is_sampled());
    let mut written = headers(&[("traceparent", "old"), ("tracestate", "old=1")]);
    trace.write(&mut written);
    assert_eq!(
        written,
        headers(&[("traceparent", PARENT), ("tracestate", "a=1")])
    );
    assert_eq!(TraceContext::from_headers(&written), Some(trace));
    let without_state = TraceContext::parse(PARENT, "").unwrap();
    without_state.write(&mut written);
    assert_eq!(written, headers(&[("traceparent", PARENT)]));
}

#[test]
fn a_traceparent_that_is_not_valid_is_none() {
    for wrong in [
        "",
        "00",
        &PARENT[..54],
        &format!("{PARENT}-"),
        &format!("{PARENT}0"),
        &format!(" {PARENT}"),
        &PARENT.to_uppercase(),
        &PARENT.replacen("00", "ff", 1),
        &PARENT.replacen("00", "0g", 1),
        &PARENT.replace('-', "_"),
        &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
        &PARENT.replace("00f067aa0ba902b7", "00f067aa0ba902bß"),
        &format!("cc-{}x", &PARENT[3..]),
    ] {
        assert_eq!(TraceContext::parse(wrong, ""), None, "{wrong}");
    }
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known_and_passed_on_as_version_0() {
    for later in ["cc-.", "cc-.-", "cc-.-what-will-come"] {
        let later = later.replace('.', &PARENT[3..]);
        let trace = TraceContext::parse(&later, "").unwrap();
        assert_eq!(trace.traceparent(), PARENT, "{later}");
    }
}

#[test]
fn flags_that_are_not_defined_are_not_passed_on() {
    let sent = PARENT.replace("-01", "-fe");
    let trace = TraceContext::parse(&sent, "").unwrap();
    assert!(!trace.is_sampled());
    assert_eq!(trace.traceparent(), PARENT.replace("-01", "-02"));
}

#[test]
fn several_traceparents_are_none_and_several_tracestates_are_one_list() {
    let twice = headers(&[("traceparent", PARENT), ("traceparent", PARENT)]);
    assert_eq!(TraceContext::from_headers(&twice), None);
    let states = [("tracestate", "a=1"), ("tracestate", "b=2 ,, c@d=3")];
    let mut sent = headers(&[("traceparent", PARENT)]);
    sent.extend(headers(&states));
    let trace = TraceContext::from_headers(&sent).unwrap();
    assert_eq!(trace.tracestate(), "a=1,b=2,c@d=3");
    assert_eq!(TraceContext::from_headers(&headers(&states)), None);
}

#[test]
fn a_tracestate_that_is_not_valid_leaves_the_traceparent() {
    let most = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>();
    for wrong in [
        "a",
        "=1",
        "a=",
        "A=1",
        "a=1,a=2",
        "a=1=2",
        "a=\u{7}",
        "a=ä",
        "a@=1",
        "a@1=1",
        "@a=1",
        &most.join(","),
        &format!("{}=1", "k".repeat(257)),
        &format!("a={}", "v".repeat(257)),
    ] {
        assert_eq!(state_of(wrong), "", "{wrong}");
    }
    assert_eq!(state_of(&most[..32].join(",")), most[..32].join(","));
}

#[test]
fn a_long_tracestate_loses_its_long_members_first_and_then_its_last() {
    let long = format!("long={}", "v".repeat(200));
    assert_eq!(state_of(&format!("{long},a=1")), format!("{long},a=1"));
    assert_eq!(
        state_of(&format!("{long},a=1,b={0},c={0}", "v".repeat(160))),
        "a=1"
    );
    let members: Vec<_> = (0..10)
        .map(|n| format!("k{n}={}", "v".repeat(97)))
        .collect();
    assert_eq!(state_of(&members.join(",")), members[..5].join(","));
}

#[test]
fn a_tracestate_is_not_shown() {
    let trace = TraceContext::parse(PARENT, "vendor=secret").unwrap();
    assert_eq!(format!("{trace:?}"), format!("TraceContext({PARENT})"));
}

proptest! {
    #[test]
    fn what_is_read_of_hostile_headers_is_written_as_valid_ones(
        parent in prop_oneof![
            any::<String>(),
            "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,9})?",
            "[0-9a-gß-]{50,60}",
        ],
        state in prop_oneof![any::<String>(), "([a-z0-9@*]{0,9}=[ -~]{0,300}[,\t ]{0,3}){0,40}"],
    ) {
        if let Some(trace) = TraceContext::parse(&parent, &state) {
            prop_assert!(trace.tracestate().len() <= MOST_STATE);
            let mut written = HeaderMap::new();
            trace.write(&mut written);
            prop_assert_eq!(TraceContext::from_headers(&written), Some(trace));
        }
    }

    #[test]
    fn any_bytes_in_the_headers_are_read_without_a_panic(
        parent in any::<Vec<u8>>(),
        state in any::<Vec<u8>>(),
    ) {
        let mut sent = HeaderMap::new();
        for (name, value) in [("traceparent", parent), ("tracestate", state)] {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                sent.append(name, value);
            }
        }
        let _ = TraceContext::from_headers(&sent);
    }
}
