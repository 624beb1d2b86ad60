//! The size of texts, as far as it can be known without the letters of the reader's system.

/// The size of all letters.
pub(crate) const SIZE: f64 = 14.0;

/// The width of a letter, on average, in the widest of the usual fonts.
const LETTER: f64 = 0.56;
const BOLD_LETTER: f64 = 0.6;

/// How wide a text is at most.
pub(crate) fn width(text: &str, is_bold: bool) -> f64 {
    let letter = if is_bold { BOLD_LETTER } else { LETTER };
    text.chars().count() as f64 * letter * SIZE
}
