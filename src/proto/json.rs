//! JSON as `google.protobuf.Struct`, and back: exact, or refused.

use prost_types::{ListValue, Struct, Value as Proto, value::Kind};
use serde_json::{Map, Number, Value};

/// The largest integer of which an `f64` can say that it is that one, and not its neighbour.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// How deep objects and arrays may be in each other, the outermost included.
///
/// Protobuf decoders refuse messages that are 100 deep, and an object in an object is three.
pub const MAX_DEPTH: usize = 32;

/// A value that JSON and `google.protobuf.Struct` cannot both hold.
///
/// It tells where the value is, by the path to it, and what is wrong; not the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {problem}")]
pub struct StructError {
    path: String,
    /// The first step of the path.
    field: Option<Box<str>>,
    problem: Box<str>,
}

impl StructError {
    fn of(problem: impl Into<Box<str>>) -> Self {
        Self {
            path: String::new(),
            field: None,
            problem: problem.into(),
        }
    }

    fn in_field(mut self, name: &str) -> Self {
        self.field = Some(name.into());
        self.within(name)
    }

    fn within(mut self, step: &str) -> Self {
        let dot = match self.path.chars().next() {
            None | Some('[') => "",
            Some(_) => ".",
        };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }

    /// The outermost field that the value is in.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

/// A JSON object as a `Struct`.
///
/// ```
/// use serde_json::json;
/// use tower_dspy::proto::{from_struct, to_struct};
///
/// let inputs = json!({"question": "Why?", "n": 3, "share": 0.5, "seen": null, "tags": ["a"]});
/// let inputs = inputs.as_object().unwrap();
/// assert_eq!(from_struct(to_struct(inputs)?)?, *inputs);
///
/// let large = json!({"ids": [1, 9007199254740993_u64]});
/// let refused = to_struct(large.as_object().unwrap()).unwrap_err();
/// assert!(refused.to_string().starts_with("`ids[1]` is an integer beyond 2^53 - 1"));
/// # Ok::<(), tower_dspy::proto::StructError>(())
/// ```
///
/// # Errors
/// If an integer is beyond 2^53 - 1 either way, and might not arrive as it is; or if there are more
/// than [`MAX_DEPTH`] objects and arrays in each other.
pub fn to_struct(object: &Map<String, Value>) -> Result<Struct, StructError> {
    encode_object(object, MAX_DEPTH)
}

/// A `Struct` as a JSON object.
///
/// A whole number up to 2^53 - 1 either way becomes an integer, since `Struct` has none and a program
/// may ask for one; `3.0` is `3` then. Any other number stays a float.
///
/// # Errors
/// If a number is NaN or infinite, if a value has no kind, or if there are more than [`MAX_DEPTH`]
/// objects and arrays in each other.
pub fn from_struct(object: Struct) -> Result<Map<String, Value>, StructError> {
    decode_object(object, MAX_DEPTH)
}

fn deeper(left: usize) -> Result<usize, StructError> {
    left.checked_sub(1).ok_or_else(|| {
        StructError::of(format!(
            "is in more than {MAX_DEPTH} objects and arrays, which decoders refuse"
        ))
    })
}

fn encode_object(object: &Map<String, Value>, left: usize) -> Result<Struct, StructError> {
    let left = deeper(left)?;
    let fields = object.iter().map(|(name, value)| {
        let encoded = encode(value, left).map_err(|error| error.in_field(name))?;
        Ok((name.clone(), encoded))
    });
    Ok(Struct {
        fields: fields.collect::<Result<_, _>>()?,
    })
}

fn encode(value: &Value, left: usize) -> Result<Proto, StructError> {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(encode_number(value)?),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => {
            let left = deeper(left)?;
            let values = values.iter().enumerate().map(|(index, value)| {
                encode(value, left).map_err(|error| error.within(&format!("[{index}]")))
            });
            Kind::ListValue(ListValue {
                values: values.collect::<Result<_, _>>()?,
            })
        }
        Value::Object(object) => Kind::StructValue(encode_object(object, left)?),
    };
    Ok(Proto { kind: Some(kind) })
}

fn encode_number(number: &Number) -> Result<f64, StructError> {
    let integer = number
        .as_u64()
        .or_else(|| number.as_i64().map(i64::unsigned_abs));
    if integer.is_some_and(|integer| integer > MAX_SAFE) {
        return Err(StructError::of(
            "is an integer beyond 2^53 - 1, which the wire's numbers cannot hold exactly; make it a \
             string",
        ));
    }
    // Never infinite, unless another crate has serde_json keep numbers as text.
    match number.as_f64() {
        Some(float) if float.is_finite() => Ok(float),
        _ => Err(StructError::of("is a number that no 64-bit float can hold")),
    }
}

fn decode_object(object: Struct, left: usize) -> Result<Map<String, Value>, StructError> {
    let left = deeper(left)?;
    let fields = object.fields.into_iter();
    fields
        .map(|(name, value)| match decode(value, left) {
            Ok(value) => Ok((name, value)),
            Err(error) => Err(error.in_field(&name)),
        })
        .collect()
}

fn decode(value: Proto, left: usize) -> Result<Value, StructError> {
    Ok(match value.kind {
        None => {
            return Err(StructError::of(
                "is a value of no kind, which stands for nothing; null is `null_value`",
            ));
        }
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(value)) => Value::Number(decode_number(value)?),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => {
            let left = deeper(left)?;
            let values = list.values.into_iter().enumerate().map(|(index, value)| {
                decode(value, left).map_err(|error| error.within(&format!("[{index}]")))
            });
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(object)) => Value::Object(decode_object(object, left)?),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "whole, and small enough for both"
)]
fn decode_number(number: f64) -> Result<Number, StructError> {
    let whole = number.fract() == 0.0 && number.abs() <= MAX_SAFE as f64;
    // The integer 0 would not tell -0.0 from it.
    if whole && !(number == 0.0 && number.is_sign_negative()) {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number)
        .ok_or_else(|| StructError::of("is NaN or an infinity, which JSON has no word for"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::proto::v1::PredictRequest;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn number(value: f64) -> Struct {
        let value = Proto {
            kind: Some(Kind::NumberValue(value)),
        };
        Struct {
            fields: [("n".to_owned(), value)].into(),
        }
    }

    /// Objects, or arrays, `depth` in each other below the object that holds them.
    fn nested(depth: usize, arrays: bool) -> Map<String, Value> {
        let inner = (1..depth).fold(json!("innermost"), |inner, _| match arrays {
            true => json!([inner]),
            false => json!({"a": inner}),
        });
        object(&json!({"a": inner}))
    }

    #[test]
    fn a_json_value_survives_the_round_trip() {
        let all = json!({
            "null": null, "yes": true, "no": false, "text": "größe\n\u{1F600}", "empty": "",
            "zero": 0, "minus": -0.0, "half": 0.5, "tiny": f64::MIN_POSITIVE, "huge": 1e300,
            "most": 9_007_199_254_740_991_i64, "least": -9_007_199_254_740_991_i64,
            "list": [1, "a", [], {}, null], "object": {"": {"deep": [1.5]}},
        });
        let all = object(&all);
        let there = to_struct(&all).unwrap();
        let sent = Struct::decode(there.encode_to_vec().as_slice()).unwrap();
        let back = from_struct(sent).unwrap();
        assert_eq!(back, all);
        // Equality of JSON numbers does not tell the two zeros apart.
        assert!(back["minus"].as_f64().unwrap().is_sign_negative());
        assert!(back["zero"].is_u64() && back["most"].is_u64() && back["least"].is_i64());
    }

    #[test]
    fn a_whole_float_arrives_as_an_integer() {
        let back = from_struct(to_struct(&object(&json!({"n": 3.0}))).unwrap()).unwrap();
        assert!(back["n"].is_u64());
        // What may have been rounded is not passed off as one.
        let back = from_struct(number(9_007_199_254_740_992.0)).unwrap();
        assert!(back["n"].is_f64());
    }

    #[test]
    fn an_inexact_number_is_refused_with_its_path() {
        let inexact = [
            json!({"a": {"b": [0, 9_007_199_254_740_992_u64]}}),
            json!({"a": {"b": [0, u64::MAX]}}),
            json!({"a": {"b": [0, i64::MIN]}}),
        ];
        for value in inexact {
            let error = to_struct(&object(&value)).unwrap_err();
            assert_eq!(error.field(), Some("a"));
            let told = error.to_string();
            assert!(told.starts_with("`a.b[1]` is an integer beyond"), "{told}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = from_struct(number(value)).unwrap_err();
            assert!(error.to_string().starts_with("`n` is NaN"), "{error}");
        }
        let nothing = Struct {
            fields: [("n".to_owned(), Proto { kind: None })].into(),
        };
        let error = from_struct(nothing).unwrap_err();
        assert!(error.to_string().contains("no kind"), "{error}");
    }

    /// What is let through is what the decoder takes, in the message that it is sent in.
    #[test]
    fn a_value_of_the_greatest_depth_arrives() {
        for arrays in [false, true] {
            let deepest = nested(MAX_DEPTH, arrays);
            let request = PredictRequest {
                inputs: Some(to_struct(&deepest).unwrap()),
                ..PredictRequest::default()
            };
            let sent = PredictRequest::decode(request.encode_to_vec().as_slice()).unwrap();
            assert_eq!(from_struct(sent.inputs.unwrap()).unwrap(), deepest);

            let error = to_struct(&nested(MAX_DEPTH + 1, arrays)).unwrap_err();
            assert!(error.to_string().contains("more than 32"), "{error}");
            assert_eq!(error.field(), Some("a"));
        }
    }

    #[test]
    fn a_struct_deeper_than_the_limit_is_refused() {
        let mut deep = number(1.0);
        for _ in 0..1000 {
            let kind = Some(Kind::StructValue(deep));
            deep = Struct {
                fields: [("a".to_owned(), Proto { kind })].into(),
            };
        }
        assert!(from_struct(deep).is_err());
    }
}
