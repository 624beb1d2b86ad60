//! Times, sizes and names in the cells of a table.

use std::time::Duration;

use super::timeline::format::{shortened, thousands, usd};
use crate::call::{Cost, Usd};

/// How many characters of a name from outside are shown.
const MOST_NAME: usize = 120;

/// A duration with as many digits as its neighbours in a column have: `0.4 ms`, `40 ms`, `3.1 s`,
/// `2 min 5 s`, `3 h 20 min`.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = duration.as_secs();
    match duration.as_micros() {
        0 => "0 ms".to_owned(),
        1..10_000 => format!("{:.1} ms", seconds * 1e3),
        10_000..999_500 => format!("{:.0} ms", seconds * 1e3),
        999_500..59_950_000 => format!("{seconds:.1} s"),
        _ => match whole {
            0..3600 => format!("{} min {} s", whole / 60, whole % 60),
            3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
            _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
        },
    }
}

/// Bytes in MiB.
pub(super) fn memory(bytes: u64) -> String {
    format!("{} MiB", thousands(bytes >> 20))
}

/// What LM calls cost: `$0.012`, `$0.012 + about $0.001`, `at least $0.012`, `unknown`.
pub(super) fn cost(cost: Cost) -> String {
    let is_unknown = cost.unknown_calls > 0;
    let mut text = match cost.usd {
        Usd::ZERO if is_unknown => String::new(),
        Usd::ZERO => "$0".to_owned(),
        counted => usd(counted),
    };
    if cost.estimated_usd > Usd::ZERO {
        let plus = if text.is_empty() { "" } else { " + " };
        text += &format!("{plus}about {}", usd(cost.estimated_usd));
    }
    match (is_unknown, text.is_empty()) {
        (true, true) => "unknown".to_owned(),
        (true, false) => format!("at least {text}"),
        (false, _) => text,
    }
}

/// A name from outside in one line of bounded length.
pub(super) fn shown(name: &str) -> String {
    shortened(name, MOST_NAME)
}

/// The words with a capital at the beginning.
pub(super) fn capitalised(words: &str) -> String {
    let mut rest = words.chars();
    let first = rest.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_unit_of_its_size() {
        let shown = [0, 400, 9_900, 40_000, 999_400, 3_140_000, 125_000_000]
            .map(|micros| time(Duration::from_micros(micros)));
        let expected = [
            "0 ms",
            "0.4 ms",
            "9.9 ms",
            "40 ms",
            "999 ms",
            "3.1 s",
            "2 min 5 s",
        ];
        assert_eq!(shown, expected);
        assert_eq!(time(Duration::from_secs(12_000)), "3 h 20 min");
        assert_eq!(time(Duration::from_secs(90_000)), "1 d 1 h");
    }

    #[test]
    fn an_unknown_cost_is_not_shown_as_zero() {
        let of = |usd, estimated_usd, unknown_calls| {
            cost(Cost {
                usd: Usd::new(usd),
                estimated_usd: Usd::new(estimated_usd),
                unknown_calls,
            })
        };
        assert_eq!(of(0.0, 0.0, 0), "$0");
        assert_eq!(of(0.01234, 0.0, 0), "$0.0123");
        assert_eq!(of(12.5, 0.000_25, 0), "$12.50 + about $0.00025");
        assert_eq!(of(0.0, 0.0, 3), "unknown");
        assert_eq!(of(0.5, 0.0, 3), "at least $0.5");
    }

    #[test]
    fn a_name_is_shown_in_one_line_of_bounded_length() {
        assert_eq!(shown("qa"), "qa");
        assert_eq!(shown("a\nb\u{202e}c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(shown(&"x".repeat(10_000)).chars().count(), MOST_NAME);
    }
}
