//! What is wrong with a configuration.

use std::{fmt, ops::RangeInclusive, time::Duration};

use humantime::format_duration;

use crate::error::ErrorKind;

/// The shortest limit: that of tokio's timer.
pub(super) const TICK: Duration = Duration::from_millis(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// A value of a configuration is not allowed.
///
/// It names the field, by its path, the value, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}, but has to be {allowed}")]
pub struct ConfigError {
    field: String,
    value: String,
    allowed: String,
}

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
}

/// The place in a configuration that is being checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) outer: Option<&'a Place<'a>>,
    pub(super) name: &'a str,
}

impl<'a> Place<'a> {
    /// The configuration itself.
    pub(super) const ROOT: Self = Self {
        outer: None,
        name: "",
    };

    pub(super) const fn of(&'a self, name: &'a str) -> Self {
        Self {
            outer: Some(self),
            name,
        }
    }

    /// The value `value` of this place is not what is allowed.
    pub(super) fn refuse(
        &self,
        value: impl fmt::Display,
        allowed: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            field: self.to_string(),
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }

    pub(super) fn number<T>(&self, value: T, range: RangeInclusive<T>) -> Result<(), ConfigError>
    where
        T: PartialOrd + fmt::Display,
    {
        // Also true of what is not a number.
        if !range.contains(&value) {
            let allowed = format!("{} to {}", range.start(), range.end());
            return Err(self.refuse(value, allowed));
        }
        Ok(())
    }

    pub(super) fn duration(
        &self,
        value: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<(), ConfigError> {
        if !range.contains(&value) {
            let (least, most) = (
                format_duration(*range.start()),
                format_duration(*range.end()),
            );
            let allowed = format!("{least} to {most}");
            return Err(self.refuse(format_duration(value), allowed));
        }
        Ok(())
    }

    pub(super) fn kinds(&self, kinds: &[ErrorKind]) -> Result<(), ConfigError> {
        if kinds.is_empty() {
            return Err(self.refuse("empty", "one kind at least"));
        }
        Ok(())
    }

    /// That `value` is less than `most`, which the field `other` says, if it says anything.
    pub(super) fn below(
        &self,
        value: Duration,
        other: &str,
        most: Option<Duration>,
    ) -> Result<(), ConfigError> {
        match most {
            Some(most) if value >= most => {
                let allowed = format!("less than `{other}`, {}", format_duration(most));
                Err(self.refuse(format_duration(value), allowed))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer.filter(|outer| outer.outer.is_some()) {
            write!(f, "{outer}.")?;
        }
        f.write_str(self.name)
    }
}
