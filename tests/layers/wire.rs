//! The wire forms of the time left: the values of other implementations, and the properties of
//! every value.

use std::time::Duration;

use proptest::prelude::*;
use tower_dspy::{
    Deadline,
    deadline::{GrpcTimeout, InvalidTimeout, RequestTimeout, TimeoutProblem},
};

use super::support::{millis, secs};

const HOUR: u64 = 3_600;

fn grpc(value: &str) -> Result<Duration, TimeoutProblem> {
    let read = value.parse::<GrpcTimeout>();
    read.map(GrpcTimeout::duration).map_err(|e| e.problem())
}

fn request(value: &str) -> Result<Duration, TimeoutProblem> {
    let read = value.parse::<RequestTimeout>();
    read.map(RequestTimeout::duration).map_err(|e| e.problem())
}

/// The values that grpc-go's `TestDecodeTimeout` reads (internal/transport/http_util_test.go at
/// commit 4793ad0).
#[test]
fn grpc_timeouts_are_read_as_grpc_go_reads_them() {
    let facts = [
        ("00000001n", Duration::from_nanos(1)),
        ("10u", Duration::from_micros(10)),
        ("00000010m", millis(10)),
        ("1234S", secs(1_234)),
        ("00000001M", secs(60)),
        ("09999999S", secs(9_999_999)),
        ("99999999S", secs(99_999_999)),
        ("99999999M", secs(60 * 99_999_999)),
        ("2562047H", secs(HOUR * 2_562_047)),
        // Go clamps these two to the 292 years of its durations. There is room for them here.
        ("2562048H", secs(HOUR * 2_562_048)),
        ("99999999H", secs(HOUR * 99_999_999)),
        // The specification asks for positive numbers; Go lets these time out instead.
        ("0S", Duration::ZERO),
        ("00000000S", Duration::ZERO),
    ];
    for (value, left) in facts {
        assert_eq!(grpc(value), Ok(left), "{value}");
    }
    let refused = [
        ("-1S", TimeoutProblem::Number),
        ("1234x", TimeoutProblem::Unit),
        ("1234s", TimeoutProblem::Unit),
        ("1234", TimeoutProblem::Unit),
        ("1", TimeoutProblem::TooShort),
        ("", TimeoutProblem::TooShort),
        ("9a1S", TimeoutProblem::Number),
        ("000000000S", TimeoutProblem::TooLong),
    ];
    for (value, problem) in refused {
        assert_eq!(grpc(value), Err(problem), "{value}");
    }
}

/// The values that grpc-go's `TestEncodeDuration` writes
/// (internal/grpcutil/encode_duration_test.go at commit 4793ad0).
#[test]
fn grpc_timeouts_are_written_as_grpc_go_writes_them() {
    let facts = [
        (Duration::from_nanos(12_345_678), "12345678n"),
        (Duration::from_nanos(123_456_789), "123457u"),
        (Duration::from_micros(12_345_678), "12345678u"),
        (Duration::from_micros(123_456_789), "123457m"),
        (millis(12_345_678), "12345678m"),
        (millis(123_456_789), "123457S"),
        (secs(12_345_678), "12345678S"),
        (secs(123_456_789), "2057614M"),
        (secs(60 * 12_345_678), "12345678M"),
        (secs(60 * 123_456_789), "2057614H"),
    ];
    for (left, value) in facts {
        assert_eq!(GrpcTimeout::from(left).to_string(), value);
    }
}

/// Neither end is in that test: `0n` is what its code writes, the largest value is all that the
/// specification's eight digits can say.
#[test]
fn zero_and_the_longest_duration_have_a_grpc_timeout() {
    assert_eq!(GrpcTimeout::from(Duration::ZERO).to_string(), "0n");
    assert_eq!(GrpcTimeout::from(Duration::MAX).to_string(), "99999999H");
}

#[test]
fn signs_spaces_and_fractions_are_refused_in_a_grpc_timeout() {
    for value in ["+1S", " 1S", "1 S", "1.5S", "0x1S", "1_0S", "१S"] {
        assert!(grpc(value).is_err(), "{value:?}");
    }
    for value in ["1S ", "1h", "1N", "1U", "1ms"] {
        assert_eq!(grpc(value), Err(TimeoutProblem::Unit), "{value:?}");
    }
}

#[test]
fn a_request_timeout_is_seconds_or_milliseconds() {
    let facts = [
        ("2", secs(2)),
        ("2.5", millis(2_500)),
        ("2.5s", millis(2_500)),
        ("1500ms", millis(1_500)),
        ("1.5ms", Duration::from_micros(1_500)),
        ("007", secs(7)),
        ("0", Duration::ZERO),
        ("0.000000001", Duration::from_nanos(1)),
        // Finer than a nanosecond.
        ("0.000000001ms", Duration::from_nanos(1)),
        (
            "999999999999.999999999",
            Duration::new(999_999_999_999, 999_999_999),
        ),
    ];
    for (value, left) in facts {
        assert_eq!(request(value), Ok(left), "{value}");
    }
    let refused = [
        ("", TimeoutProblem::TooShort),
        ("ms", TimeoutProblem::TooShort),
        ("-1", TimeoutProblem::Number),
        ("+1", TimeoutProblem::Number),
        (" 1", TimeoutProblem::Number),
        ("1 ms", TimeoutProblem::Number),
        ("1,5", TimeoutProblem::Number),
        ("1.", TimeoutProblem::Number),
        (".5", TimeoutProblem::Number),
        ("1.2.3", TimeoutProblem::Number),
        ("1e3", TimeoutProblem::Unit),
        ("1m", TimeoutProblem::Unit),
        ("1MS", TimeoutProblem::Unit),
        ("inf", TimeoutProblem::Unit),
        ("1000000000000", TimeoutProblem::TooLong),
        ("1.0000000000", TimeoutProblem::TooLong),
    ];
    for (value, problem) in refused {
        assert_eq!(request(value), Err(problem), "{value:?}");
    }
}

#[test]
fn an_error_names_the_value_and_the_expected_form() {
    let error = "10 minutes".parse::<GrpcTimeout>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the timeout `10 minutes` is too long; expected 1 to 8 digits and one of the units \
         H, M, S, m, u, n (hours, minutes, seconds, milli-, micro-, nanoseconds), such as `1500m`"
    );
    let error = "10min".parse::<RequestTimeout>().unwrap_err();
    assert!(
        error.to_string().contains("such as `2` or `2.5`"),
        "{error}"
    );
}

#[test]
fn an_error_repeats_a_short_escaped_part_of_the_value() {
    let long = [b'\n'; 10_000];
    let shown = |error: InvalidTimeout| error.to_string();
    for error in [
        GrpcTimeout::from_bytes(&long).map_err(shown).unwrap_err(),
        RequestTimeout::from_bytes(&long)
            .map_err(shown)
            .unwrap_err(),
    ] {
        assert!(error.len() < 300, "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_written_as_the_time_left() {
    let deadline = Deadline::within(secs(10));
    tokio::time::advance(millis(2_500)).await;
    assert_eq!(GrpcTimeout::from(deadline).to_string(), "7500000u");
    assert_eq!(RequestTimeout::from(deadline).to_string(), "7500ms");
    assert_eq!(Deadline::from(GrpcTimeout::from(deadline)), deadline);

    tokio::time::advance(secs(60)).await;
    assert_eq!(GrpcTimeout::from(deadline).to_string(), "0n");
    assert_eq!(RequestTimeout::from(deadline).to_string(), "0ms");
    assert!(Deadline::from(GrpcTimeout::from(deadline)).is_past());
    // No value moves the clock past its range.
    assert!(!Deadline::from("99999999H".parse::<GrpcTimeout>().unwrap()).is_past());
}

fn any_duration() -> impl Strategy<Value = Duration> {
    // Each order of magnitude as likely as the next: uniform ones would all be centuries.
    (0_u32..=64, any::<u64>(), 0_u32..1_000_000_000)
        .prop_map(|(shift, secs, nanos)| Duration::new(secs.checked_shr(shift).unwrap_or(0), nanos))
}

/// A unit of the form, or 1 of 10,000 of the value: what rounding up may add.
fn close(read: Duration, meant: Duration, finest: Duration) -> bool {
    read - meant <= finest.max(meant / 10_000)
}

proptest! {
    #[test]
    fn a_grpc_timeout_read_back_is_never_shorter(left in any_duration()) {
        let written = GrpcTimeout::from(left).to_string();
        prop_assert!((2..=9).contains(&written.len()), "{written}");
        let read = grpc(&written).unwrap();
        let most = secs(HOUR * 99_999_999);
        prop_assert!(read >= left.min(most), "{left:?} -> {written} -> {read:?}");
        if left <= most {
            prop_assert!(close(read, left, Duration::ZERO), "{left:?} -> {written}");
        }
    }

    #[test]
    fn a_grpc_timeout_is_written_in_the_finest_unit_that_has_room(left in any_duration()) {
        let written = GrpcTimeout::from(left).to_string();
        let finer = match written.as_bytes().last() {
            Some(b'n') => None,
            Some(b'u') => Some(1),
            Some(b'm') => Some(1_000),
            Some(b'S') => Some(1_000_000),
            Some(b'M') => Some(1_000_000_000),
            Some(b'H') => Some(60_000_000_000_u128),
            other => panic!("{other:?} is no unit"),
        };
        if let Some(nanos) = finer {
            prop_assert!(left.as_nanos() > 99_999_999 * nanos, "{left:?} -> {written}");
        }
    }

    #[test]
    fn a_request_timeout_read_back_is_never_shorter(left in any_duration()) {
        let written = RequestTimeout::from(left).to_string();
        let read = request(&written).unwrap();
        let most = millis(999_999_999_999);
        prop_assert!(read >= left.min(most), "{left:?} -> {written} -> {read:?}");
        if left <= most {
            prop_assert!(close(read, left, millis(1)), "{left:?} -> {written}");
        }
    }

    #[test]
    fn any_value_is_read_exactly_or_refused(value in "[0-9]{1,9}[HMSmuns]|[0-9]{1,12}(\\.[0-9]{0,9})?(ms|s)?|[0-9.+ -]{0,14}[HMSmuns]{0,2}|\\PC*") {
        if let Ok(read) = grpc(&value) {
            let (number, unit) = value.split_at(value.len() - 1);
            let nanos = match unit {
                "n" => 1,
                "u" => 1_000,
                "m" => 1_000_000,
                "S" => 1_000_000_000,
                "M" => 60_000_000_000,
                "H" => 3_600_000_000_000_u128,
                _ => panic!("{value:?} was read"),
            };
            prop_assert!(number.len() <= 8 && number.bytes().all(|b| b.is_ascii_digit()));
            prop_assert_eq!(read.as_nanos(), number.parse::<u128>().unwrap() * nanos);
        }
        if let Ok(read) = request(&value) {
            let millis = value.ends_with("ms");
            let number = value.trim_end_matches(['m', 's']);
            prop_assert!(number.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
            let scale = if millis { 1e-3 } else { 1.0 };
            let about = number.parse::<f64>().unwrap() * scale;
            prop_assert!((read.as_secs_f64() - about).abs() <= about * 1e-9 + 2e-9);
        }
    }
}
