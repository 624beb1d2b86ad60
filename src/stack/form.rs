//! The forms of values in a configuration: durations as people write them, and parts that can be
//! switched off. An error names the field, which not every format does by itself.

use std::{fmt, marker::PhantomData, time::Duration};

use humantime::{format_duration, parse_duration};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Error, MapAccess, Unexpected, value::MapAccessDeserializer},
};

const EXAMPLES: &str = "a duration with its unit, such as \"10s\", \"1500ms\" or \"1m 30s\"";

/// Reads a duration; for a limit, `false` as well, which is none.
struct DurationVisitor {
    is_limit: bool,
}

impl de::Visitor<'_> for DurationVisitor {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXAMPLES)?;
        if self.is_limit {
            f.write_str(", or false for no limit")?;
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let duration = parse_duration(text).map_err(|error| {
            E::custom(format_args!(
                "{text:?} is no duration: {error}; expected {EXAMPLES}"
            ))
        })?;
        Ok(Some(duration))
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
        if on || !self.is_limit {
            return Err(E::invalid_type(Unexpected::Bool(on), &self));
        }
        Ok(None)
    }
}

/// A limit, or `false` for none.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_any(DurationVisitor { is_limit: true })
}

/// A duration that is there only if it is given.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_any(DurationVisitor { is_limit: false })
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    given(deserializer).map(Option::unwrap_or_default)
}

fn write<S: Serializer>(duration: Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.collect_str(&format_duration(duration)),
        None => serializer.serialize_bool(false),
    }
}

/// A part of the stack: a table, `true` for its defaults, or `false` to leave it out.
pub(super) mod part {
    use super::*;

    pub(in crate::stack) fn serialize<T: Serialize, S: Serializer>(
        part: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match part {
            Some(part) => part.serialize(serializer),
            None => serializer.serialize_bool(false),
        }
    }

    pub(in crate::stack) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: Deserialize<'de> + Default,
        D: Deserializer<'de>,
    {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> de::Visitor<'de> for Visitor<T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of options, true for their defaults, or false to leave it out")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
                Ok(on.then(T::default))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Some)
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

macro_rules! fields {
    ($($field:ident: $read:ident -> $type:ty, $name:literal;)*) => {$(
        pub(super) mod $field {
            use super::*;

            pub(in crate::stack) fn serialize<S: Serializer>(
                duration: &$type,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                write((*duration).into(), serializer)
            }

            pub(in crate::stack) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                $read(deserializer)
                    .map_err(|error| D::Error::custom(format_args!("`{}`: {error}", $name)))
            }
        }
    )*};
}

fields! {
    deadline: limit -> Option<Duration>, "deadline";
    attempt_timeout: limit -> Option<Duration>, "attempt_timeout";
    reserve: duration -> Duration, "reserve";
    grace: duration -> Duration, "grace";
    min_attempt: duration -> Duration, "min_attempt";
    base: duration -> Duration, "base";
    cap: duration -> Duration, "cap";
    ttl: given -> Option<Duration>, "ttl";
    after: given -> Option<Duration>, "after";
    fallback_reserve: given -> Option<Duration>, "reserve";
}

#[cfg(feature = "stale")]
fields! {
    max_age: duration -> Duration, "max_age";
}
