//! The length of a message that travels in headers.

use std::borrow::Cow;

/// A status travels in headers, which have little room.
const LONGEST: usize = 1024;

/// At most [`LONGEST`] bytes of `text`.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return text.into();
    }
    let room = LONGEST - '…'.len_utf8();
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end));
    format!("{}…", &text[..end.unwrap_or(0)]).into()
}
