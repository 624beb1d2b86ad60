//! The forms of values in a configuration: durations as people write them, and parts that can be
//! switched off. An error names the field, which not every format does by itself.

use std::{fmt, marker::PhantomData, time::Duration};

use humantime::{format_duration, parse_duration};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Error, MapAccess, Unexpected, value::MapAccessDeserializer},
};

const EXAMPLES: &str = "a duration with its unit, such as \"10s\", \"1500ms\" or \"1m 30s\"";

fn parse<E: Error>(text: &str) -> Result<Duration, E> {
    parse_duration(text).map_err(|error| {
        E::custom(format_args!(
            "{text:?} is no duration: {error}; expected {EXAMPLES}"
        ))
    })
}

/// A duration.
pub(super) mod duration {
    use super::*;

    pub(in crate::stack) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_duration(*duration))
    }

    pub(in crate::stack) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXAMPLES)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                parse(text)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A duration that is there only if it is given.
pub(super) mod given {
    use super::*;

    pub(in crate::stack) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::stack) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

/// A limit, or `false` for none.
pub(super) mod limit {
    use super::*;

    pub(in crate::stack) fn serialize<S: Serializer>(
        limit: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match limit {
            Some(limit) => duration::serialize(limit, serializer),
            None => serializer.serialize_bool(false),
        }
    }

    pub(in crate::stack) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Option<Duration>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{EXAMPLES}, or false for no limit")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                parse(text).map(Some)
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
                if on {
                    return Err(E::invalid_value(Unexpected::Bool(on), &self));
                }
                Ok(None)
            }
        }
        deserializer.deserialize_any(Visitor)
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
    ($($field:ident: $form:ident -> $type:ty, $name:literal;)*) => {$(
        pub(super) mod $field {
            use super::*;

            pub(in crate::stack) use super::$form::serialize;

            pub(in crate::stack) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                super::$form::deserialize(deserializer)
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
