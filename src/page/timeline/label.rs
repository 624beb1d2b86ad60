//! The places of labels: estimated widths, and where there is room.

use super::{
    row::Stage,
    scale::{Scale, rounded},
};

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
    /// The bar that it stands in.
    pub(super) inside: Option<Stage>,
}

impl Label {
    /// Where its text ends at most.
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

/// Places a label inside its bar if it has room there, else on the right of all that is
/// drawn of the row (from, to), else on its left. It is shortened where it has room nowhere, and `None`
/// where not even an ellipsis has.
pub(super) fn place(
    text: &str,
    bar: Option<(Stage, (f64, f64))>,
    (from, to): (f64, f64),
    scale: &Scale,
) -> Option<Label> {
    let wide = width(text);
    let room = |(bar_from, bar_to): (f64, f64)| bar_to - bar_from - 2.0 * GAP;
    let inside = bar.map_or(0.0, |(_, places)| room(places));
    let right = scale.right - to - GAP;
    let left = from - GAP - scale.left;
    let most = inside.max(right).max(left);
    if most < width("…") {
        return None;
    }
    let text = fitted(text, most);
    let wide = wide.min(most);
    let (x, inside) = match bar {
        Some((stage, (bar_from, _))) if wide <= inside => (bar_from + GAP, Some(stage)),
        _ if wide <= right => (to + GAP, None),
        _ => (rounded(from - GAP - wide), None),
    };
    Some(Label { text, x, inside })
}
