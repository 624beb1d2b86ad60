use std::time::Duration;

use tower_dspy::{
    ErrorKind, StackConfig,
    stack::{BackoffKind, HedgeConfig, RetryConfig, StaleConfig},
};

use crate::support::{millis, secs};

fn parsed(toml: &str) -> StackConfig {
    toml::from_str(toml).expect("well formed")
}

/// What is wrong with the values of a configuration.
fn refused(toml: &str) -> String {
    parsed(toml).layer().expect_err(toml).to_string()
}

/// Why it is not even read.
fn unread(toml: &str) -> String {
    toml::from_str::<StackConfig>(toml)
        .expect_err(toml)
        .to_string()
}

#[test]
fn a_missing_field_has_its_default() {
    let default = StackConfig::default();
    assert_eq!(parsed(""), default);
    assert_eq!(default.deadline, Some(secs(30)));
    assert_eq!(default.attempt_timeout, Some(secs(10)));
    assert_eq!((default.reserve, default.grace), (secs(0), secs(0)));
    let retry = default.retry.as_ref().expect("retries");
    assert_eq!(retry.retries, 2);
    assert_eq!(retry.backoff.kind, BackoffKind::Exponential);
    assert_eq!(default.hedge, None);
    default.layer().expect("it is allowed");
    assert_eq!(parsed("retry = true\nhedge = false"), default);
    let config = parsed("[retry]\nretries = 1");
    assert_eq!(
        config.retry.map(|retry| (retry.retries, retry.on)),
        Some((1, vec![ErrorKind::Elapsed, ErrorKind::LmUnavailable]))
    );
}

#[test]
fn durations_are_written_with_their_unit() {
    for (text, duration) in [
        ("10s", secs(10)),
        ("1500ms", millis(1_500)),
        ("1m 30s", secs(90)),
        ("2h", secs(7_200)),
        ("250us", Duration::from_micros(250)),
    ] {
        let config = parsed(&format!("reserve = \"{text}\""));
        assert_eq!(config.reserve, duration, "{text}");
    }
    for text in ["\"10\"", "\"ten s\"", "\"\"", "\"10 parsecs\"", "\"-1s\""] {
        let error = unread(&format!("deadline = {text}"));
        let value = text.trim_matches('"');
        assert!(
            error.contains(value) && error.contains("\"1500ms\""),
            "{error}"
        );
        // The field is named by the error itself, whatever the format shows of the text.
        assert!(error.contains("`deadline`: "), "{error}");
        let json = format!("{{\"retry\": {{\"backoff\": {{\"cap\": {text}}}}}}}");
        let error = serde_json::from_str::<StackConfig>(&json)
            .expect_err(&json)
            .to_string();
        assert!(
            error.contains("`cap`: ") && error.contains(value),
            "{error}"
        );
        assert!(error.matches(" at line 1 column ").count() == 1, "{error}");
    }
    let error = unread("fallback = { reserve = true }");
    assert!(error.contains("`reserve`: invalid type"), "{error}");
    let error = unread("grace = 10");
    assert!(
        error.contains("integer `10`") && error.contains("\"10s\""),
        "{error}"
    );
    let error = unread("deadline = true");
    assert!(error.contains("or false for no limit"), "{error}");
}

#[test]
fn unknown_fields_and_kinds_are_refused() {
    for (toml, named) in [
        ("timeout = \"1s\"", "timeout"),
        ("[retry]\nattempts = 3", "attempts"),
        ("[retry.backoff]\nmax = \"3s\"", "max"),
        ("[retry.budget]\nratio = 0.1", "ratio"),
        ("[hedge]\ndelay = \"3s\"", "delay"),
        ("[fallback]\nvalue = 1", "value"),
        ("[budget]\ncents = 1", "cents"),
    ] {
        let error = unread(toml);
        assert!(
            error.contains(&format!("unknown field `{named}`")),
            "{error}"
        );
        assert!(error.contains("expected"), "{error}");
    }
    let error = unread("retry = { on = [\"timeout\"] }");
    assert!(error.contains("unknown variant `timeout`"), "{error}");
    assert!(error.contains("`lm_unavailable`"), "{error}");
    let error = unread("retry = 3");
    assert!(error.contains("a table of options, true"), "{error}");
}

#[test]
fn a_value_out_of_range_is_named_with_the_allowed_range() {
    let cases = [
        (
            "deadline = \"0s\"",
            "`deadline` is 0s, but has to be 1ms to 1day",
        ),
        (
            "deadline = \"2days\"",
            "`deadline` is 2days, but has to be 1ms to 1day",
        ),
        (
            "attempt_timeout = \"100us\"",
            "`attempt_timeout` is 100us, but has to be 1ms to 1day",
        ),
        ("grace = \"2m\"", "`grace` is 2m, but has to be 0s to 1m"),
        (
            "deadline = \"2s\"\nreserve = \"2s\"",
            "`reserve` is 2s, but has to be less than `deadline`, 2s",
        ),
        (
            "retry = { retries = 11 }",
            "`retry.retries` is 11, but has to be 0 to 10",
        ),
        (
            "retry = { on = [] }",
            "`retry.on` is empty, but has to be one kind at least",
        ),
        (
            "retry = { on = [\"elapsed\", \"cancelled\"] }",
            "`retry.on` is [\"cancelled\"], but has to be without `deadline`, `cancelled` and \
             `shutting_down`, which no retry helps",
        ),
        (
            "retry = { backoff = { base = \"3s\", cap = \"1s\" } }",
            "`retry.backoff.cap` is 1s, but has to be 3s to 1h",
        ),
        (
            "retry = { budget = { percent = 120.0 } }",
            "`retry.budget.percent` is 120, but has to be 0 to 100",
        ),
        (
            "retry = { budget = { percent = nan } }",
            "`retry.budget.percent` is NaN, but has to be 0 to 100",
        ),
        (
            "retry = { budget = { ttl = \"100ms\" } }",
            "`retry.budget.ttl` is 100ms, but has to be 1s to 1m",
        ),
        (
            "retry = { min_attempt = \"40s\" }",
            "`retry.min_attempt` is 40s, but has to be less than `deadline`, 30s",
        ),
        (
            "hedge = { percentile = 95.0 }",
            "`hedge.percentile` is 95, but has to be 0.5 to 0.999",
        ),
        (
            "hedge = { percentile = 0.95, after = \"2s\" }",
            "`hedge.percentile` is 0.95, but has to be left out where `after` is given",
        ),
        (
            "hedge = { after = \"10s\" }",
            "`hedge.after` is 10s, but has to be less than `attempt_timeout`, 10s",
        ),
        (
            "budget = true",
            "`budget.tokens` is not given, but has to be given, or `usd`",
        ),
        (
            "budget = { usd = 0.1, soft_share = 80 }",
            "`budget.soft_share` is 80, but has to be 0 to 1",
        ),
        (
            "fallback = { reserve = \"30s\" }",
            "`fallback.reserve` is 30s, but has to be less than `deadline`, 30s",
        ),
    ];
    for (toml, error) in cases {
        assert_eq!(refused(toml), error);
    }
    let error = parsed("retry = { backoff = { base = \"2h\" } }").layer();
    let error = error.expect_err("too long");
    assert_eq!(error.field(), "retry.backoff.base");
    assert_eq!((error.value(), error.allowed()), ("2h", "0s to 1h"));
}

#[test]
fn a_field_of_a_single_layers_configuration_is_named_relative_to_it() {
    let config: RetryConfig = toml::from_str("backoff = { base = \"2h\" }").expect("well formed");
    assert_eq!(config.layer().expect_err("long").field(), "backoff.base");
    let config: HedgeConfig = toml::from_str("percentile = 0.2").expect("well formed");
    assert_eq!(config.layer().expect_err("low").field(), "percentile");
    let config: StaleConfig = toml::from_str("capacity = 0").expect("well formed");
    assert_eq!(config.answers().expect_err("none").field(), "capacity");
}

#[test]
fn a_deadline_shorter_than_the_default_attempt_is_accepted() {
    // Whoever shortens the deadline alone has said nothing wrong.
    assert!(parsed("deadline = \"2s\"").layer().is_ok());
}

#[test]
fn a_configuration_survives_a_round_trip() {
    let full = "deadline = false\nreserve = \"200ms\"\nattempt_timeout = \"6s\"\ngrace = \"1s\"\n\
                retry = false\nhedge = { after = \"2s\", budget = { percent = 2.5 } }\n\
                budget = { tokens = 9, usd = 0.25 }\n\
                fallback = { on = [\"lost\"], reserve = \"1m 1s\" }";
    for config in [StackConfig::default(), parsed(full)] {
        let toml = toml::to_string(&config).expect("written");
        assert_eq!(parsed(&toml), config, "{toml}");
        let json = serde_json::to_string(&config).expect("written");
        assert_eq!(
            serde_json::from_str::<StackConfig>(&json).expect("read"),
            config,
            "{json}"
        );
    }
}
