//! Times, counts and names as a person reads them.

use std::time::Duration;

use crate::call::{LmCall, record::timeline::AttemptKind};

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

/// The first characters of `text`, at most `most`, with an ellipsis if there are more. Control
/// characters are shown as `\u{fffd}`.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.chars().count() <= most {
        return text.chars().map(plain).collect();
    }
    let kept = text.chars().take(most.saturating_sub(1)).map(plain);
    kept.chain(['…']).collect()
}

/// The provider and the model of an LM call, as in the LM's name.
pub(super) fn lm_name(call: &LmCall) -> String {
    format!("{}/{}", call.provider, call.model)
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
