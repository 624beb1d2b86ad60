//! The places of labels: estimated widths, and where there is room.

use super::scale::{Scale, rounded};

/// The size of the text of labels.
pub(super) const FONT: f64 = 12.0;
/// The distance between a label and what it belongs to.
const GAP: f64 = 7.0;

/// A label with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    pub(super) text: String,
    /// Where its text begins.
    pub(super) x: f64,
    pub(super) is_inside: bool,
}

impl Label {
    #[cfg(test)]
    pub(super) fn end(&self) -> f64 {
        self.x + width(&self.text)
    }
}

/// How wide a text is at most, by the widths of characters in common fonts without serifs.
pub(super) fn width(text: &str) -> f64 {
    text.chars().map(char_width).sum::<f64>() * FONT
}

fn char_width(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '|' | '\'' | '!' | ' ' => 0.36,
        'f' | 'r' | 't' | '(' | ')' | '/' | '-' | '"' => 0.46,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.98,
        'A'..='Z' => 0.76,
        ' '..='~' | '…' => 0.64,
        '\u{a0}'..='\u{52f}' => 0.8,
        _ => 1.1,
    }
}

/// As much of `text` as is `most` wide, with an ellipsis if that is not all.
pub(super) fn fitted(text: &str, most: f64) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut room = most - width("…");
    for c in text.chars() {
        room -= char_width(c) * FONT;
        if room < 0.0 {
            break;
        }
        fitted.push(c);
    }
    fitted.push('…');
    fitted
}

/// Places a label inside its bar (from, to) if it has room there, else on the right of all that is
/// drawn of the row (from, to), else on its left. It is shortened where it has room nowhere.
pub(super) fn place(
    text: &str,
    bar: Option<(f64, f64)>,
    (from, to): (f64, f64),
    scale: &Scale,
) -> Label {
    let wide = width(text);
    let (bar_from, bar_to) = bar.unwrap_or((from, from));
    let inside = bar_to - bar_from - 2.0 * GAP;
    let right = scale.right - to - GAP;
    let left = from - GAP - scale.left;
    let most = inside.max(right).max(left);
    let text = fitted(text, most);
    let wide = wide.min(most);
    let (x, is_inside) = if wide <= inside {
        (bar_from + GAP, true)
    } else if wide <= right {
        (to + GAP, false)
    } else {
        (rounded(from - GAP - wide), false)
    };
    Label { text, x, is_inside }
}
