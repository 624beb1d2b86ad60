//! The name of the variable that an LM takes its key from.

use super::redact::Redact;

/// Whether it is the name of a variable, and no key that looks like one.
pub(super) fn is_variable(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let is_name = starts
        && name
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    is_name && Redact::new(None).text(name) == name
}
