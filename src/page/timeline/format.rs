//! Times, counts and names as a person reads them.

use std::time::Duration;

use crate::call::{LmCall, Usd, record::timeline::AttemptKind};

/// A length of time with its unit: `0.004 ms`, `12.3 ms`, `4 s`, `2.15 s`, `3 min 7 s`, `2 h 5 min`.
pub(crate) fn length(length: Duration) -> String {
    let ms = length.as_secs_f64() * 1e3;
    let secs = length.as_secs_f64();
    let whole = secs.round() as u64;
    match ms {
        _ if length.is_zero() => "0 ms".to_owned(),
        ms if ms < 0.0005 => "under 0.001 ms".to_owned(),
        ms if ms < 0.1 => format!("{} ms", decimal(ms, 3)),
        ms if ms < 99.95 => format!("{} ms", decimal(ms, 1)),
        ms if ms < 999.5 => format!("{} ms", decimal(ms, 0)),
        _ if secs < 9.995 => format!("{} s", decimal(secs, 2)),
        _ if secs < 99.95 => format!("{} s", decimal(secs, 1)),
        _ if whole < 3600 => two_units(whole / 60, "min", whole % 60, "s"),
        _ => two_units(whole / 3600, "h", whole % 3600 / 60, "min"),
    }
}

/// An amount of money, of three digits or two behind the point: `$12.50`, `$0.0123`, `$0.00025`.
pub(crate) fn usd(usd: Usd) -> String {
    let dollars = usd.as_f64();
    if dollars >= 1.0 {
        return format!("${dollars:.2}");
    }
    // Of a picodollar, the least amount, the first digit is the twelfth.
    let places = (2.0 - dollars.log10().floor()).clamp(0.0, 12.0) as usize;
    format!("${}", decimal(dollars, places))
}

/// How long work went on for nobody. What is under 0.1 ms is not told apart: it is the time that it
/// takes to write the record.
pub(crate) fn unwanted(time: Duration) -> String {
    match time {
        none if none.is_zero() => "none".to_owned(),
        short if short < UNWANTED_LEAST => "under 0.1 ms".to_owned(),
        time => length(time),
    }
}

/// The least time of work for nobody that is worth a sentence.
pub(super) const UNWANTED_LEAST: Duration = Duration::from_micros(100);

fn two_units(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// An instant as its distance from the arrival: `+0 ms`, `+12.3 ms`, `+3.912 s`, `+4.0004 s`.
pub(crate) fn offset(at: Duration) -> String {
    let ms = at.as_secs_f64() * 1e3;
    if ms < 0.1 {
        return format!("+{} ms", decimal(ms, 3));
    }
    if ms < 999.95 {
        return format!("+{} ms", decimal(ms, 1));
    }
    let fine = format!("{:.4}", at.as_secs_f64());
    let shown = match fine.strip_suffix('0') {
        Some(coarse) => coarse,
        None => &fine,
    };
    format!("+{shown} s")
}

/// At most `digits` digits after the point, and no zeros at the end.
fn decimal(value: f64, digits: usize) -> String {
    let fixed = format!("{value:.digits$}");
    if !fixed.contains('.') {
        return fixed;
    }
    fixed.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count with its noun: `1 token`, `1,655 tokens`.
pub(crate) fn count(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{} {noun}s", thousands(count)),
    }
}

/// A number with commas between its thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The first characters of `text`, at most `most`, with an ellipsis if there are more. Characters that
/// act on a terminal, turn the direction of text or are not allowed in XML are shown as `\u{fffd}`.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let plain = |c: char| if is_plain(c) { c } else { '\u{fffd}' };
    if text.chars().count() <= most {
        return text.chars().map(plain).collect();
    }
    let kept = text.chars().take(most.saturating_sub(1)).map(plain);
    kept.chain(['…']).collect()
}

fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// A name that comes from outside, of a bounded length.
pub(crate) fn bounded_name(name: &str) -> String {
    shortened(name, 80)
}

/// The provider and the model of an LM call, as in the LM's name.
pub(super) fn lm_name(call: &LmCall) -> String {
    bounded_name(&format!("{}/{}", call.provider, call.model))
}

/// The kind of an attempt in one word; the first has none.
pub(super) const fn kind(kind: AttemptKind) -> Option<&'static str> {
    match kind {
        AttemptKind::First => None,
        AttemptKind::Retry => Some("retry"),
        AttemptKind::Hedge => Some("hedge"),
        AttemptKind::Fallback => Some("fallback"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn lengths_have_the_digits_that_matter() {
        let shown = [
            (0, "0 ms"),
            (4, "0.004 ms"),
            (400, "0.4 ms"),
            (12_340, "12.3 ms"),
            (312_400, "312 ms"),
            (999_600, "1 s"),
            (2_104_000, "2.1 s"),
            (4_000_000, "4 s"),
            (59_960_000, "60 s"),
            (64_000_000, "64 s"),
            (187_000_000, "3 min 7 s"),
            (600_000_000, "10 min"),
            (7_500_000_000, "2 h 5 min"),
        ];
        for (micros, text) in shown {
            assert_eq!(length(us(micros)), text);
        }
        assert_eq!(length(Duration::from_nanos(3)), "under 0.001 ms");
    }

    #[test]
    fn the_least_times_of_work_for_nobody_are_one() {
        assert_eq!(unwanted(us(0)), "none");
        assert_eq!(unwanted(us(99)), "under 0.1 ms");
        assert_eq!(unwanted(us(100)), "0.1 ms");
    }

    #[test]
    fn offsets_keep_tenths_of_a_millisecond() {
        let shown = [
            (0, "+0 ms"),
            (40, "+0.04 ms"),
            (12_340, "+12.3 ms"),
            (999_900, "+999.9 ms"),
            (999_960, "+1.000 s"),
            (3_912_000, "+3.912 s"),
            (4_000_000, "+4.000 s"),
            (4_000_400, "+4.0004 s"),
            (600_000_000, "+600.000 s"),
        ];
        for (micros, text) in shown {
            assert_eq!(offset(us(micros)), text);
        }
    }

    #[test]
    fn texts_are_shortened_without_control_characters() {
        assert_eq!(shortened("tool", 4), "tool");
        assert_eq!(shortened("tools", 4), "too…");
        assert_eq!(shortened("a\u{1b}[0m\n", 9), "a\u{fffd}[0m\u{fffd}");
        assert_eq!(shortened("größer", 3), "gr…");
        assert_eq!(shortened("\u{202e}cba\u{ffff}", 9), "\u{fffd}cba\u{fffd}");
    }

    #[test]
    fn counts_have_their_noun_and_commas() {
        assert_eq!(count(1, "token"), "1 token");
        assert_eq!(count(0, "token"), "0 tokens");
        assert_eq!(count(1_234_567, "token"), "1,234,567 tokens");
    }
}
