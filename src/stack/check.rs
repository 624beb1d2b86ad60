//! What is wrong with a configuration.

use std::{fmt, ops::RangeInclusive, time::Duration};

use humantime::Duration as Readable;

use crate::error::{ErrorKind, debug_as_display};

/// The shortest limit: that of tokio's timer.
pub(super) const TICK: Duration = Duration::from_millis(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// A value of a configuration is not allowed.
///
/// It names the field, by its path, the value, and what is allowed.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}, but has to be {allowed}")]
pub struct ConfigError {
    field: String,
    value: String,
    allowed: String,
}

debug_as_display!(ConfigError);

impl ConfigError {
    /// The path of the field, as `retry.backoff.cap`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The value that it has.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What it may be, in words.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// The error of a field that belongs to the configuration in the field `outer`.
    pub(super) fn within(outer: &str) -> impl FnOnce(Self) -> Self + use<'_> {
        move |error| Self {
            field: format!("{outer}.{}", error.field),
            ..error
        }
    }
}

/// The value `value` of `field` is not what is allowed.
pub(super) fn refuse(
    field: &str,
    value: impl fmt::Display,
    allowed: impl Into<String>,
) -> ConfigError {
    ConfigError {
        field: field.into(),
        value: value.to_string(),
        allowed: allowed.into(),
    }
}

pub(super) fn number<T>(field: &str, value: T, range: RangeInclusive<T>) -> Result<(), ConfigError>
where
    T: PartialOrd + fmt::Display,
{
    // Also true of what is not a number.
    if !range.contains(&value) {
        let allowed = format!("{} to {}", range.start(), range.end());
        return Err(refuse(field, value, allowed));
    }
    Ok(())
}

pub(super) fn duration(
    field: &str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    let (least, most) = range.into_inner();
    let range = Readable::from(least)..=Readable::from(most);
    number(field, Readable::from(value), range)
}

pub(super) fn kinds(field: &str, kinds: &[ErrorKind]) -> Result<(), ConfigError> {
    if kinds.is_empty() {
        return Err(refuse(field, "empty", "one kind at least"));
    }
    Ok(())
}

/// That `value` is less than `most`, the value of the field `other`, if that has one.
pub(super) fn below(
    field: &str,
    value: Duration,
    other: &str,
    most: Option<Duration>,
) -> Result<(), ConfigError> {
    match most {
        Some(most) if value >= most => {
            let allowed = format!("less than `{other}`, {}", Readable::from(most));
            Err(refuse(field, Readable::from(value), allowed))
        }
        _ => Ok(()),
    }
}
