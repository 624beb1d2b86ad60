//! The fields of a program, and the check of inputs against them.

#[cfg(feature = "openapi")]
use std::iter;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::meant::did_you_mean;
use crate::error::InvalidInput;

/// Names that DSPy takes from a program's inputs for its own settings: an LM's address among them.
const PRIVILEGED: [&str; 4] = ["config", "signature", "demos", "lm"];

/// The fields of a program, read when it is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Schema {
    /// The input fields, in the program's order.
    #[serde(default)]
    pub inputs: Vec<InputField>,
    /// The names of the output fields; `None` where only running the program tells.
    #[serde(default)]
    pub outputs: Option<Vec<String>>,
    /// The JSON types of each, in the same order.
    #[serde(default)]
    output_types: Option<Vec<Option<Vec<JsonType>>>>,
}

/// One input field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct InputField {
    /// Its name.
    pub name: String,
    /// Whether each request must have it.
    pub required: bool,
    /// Its Python type, as a reader would write it.
    pub expected: String,
    /// The JSON types it may have; `None` where Python alone can judge the value.
    pub(crate) types: Option<Vec<JsonType>>,
}

/// The name of an output field and the JSON types that it may have; `None` if any.
#[cfg(feature = "openapi")]
pub(crate) type OutputField<'a> = (&'a str, Option<&'a [JsonType]>);

/// The type of a JSON value; a string array is an array of nothing but strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JsonType {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    StringArray,
    Array,
    Object,
    /// A type of JSON Schema that this crate does not know; Python judges the value.
    #[serde(other)]
    Unknown,
}

/// The levels of nesting above which inputs are refused: their conversion to Python is recursive.
const DEEPEST: usize = 100;

fn is_deeper(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => true,
        (Value::Array(items), Some(levels)) => items.iter().any(|item| is_deeper(item, levels)),
        (Value::Object(fields), Some(levels)) => {
            fields.values().any(|value| is_deeper(value, levels))
        }
        _ => false,
    }
}

impl Schema {
    /// Refuses inputs that do not fit, and names the field and what is expected.
    pub(super) fn check(&self, program: &str, inputs: &Value) -> Result<(), InvalidInput> {
        let refuse = |field: Option<&str>, problem: String, expected: String| {
            Err(InvalidInput::new(program, field, problem, expected))
        };
        let Value::Object(inputs) = inputs else {
            let problem = format!("the inputs are {}, not a JSON object", name_of(inputs));
            return refuse(None, problem, self.describe());
        };
        // Before all else: a privileged name is refused also where a field would match it.
        if let Some(name) = PRIVILEGED.iter().find(|name| inputs.contains_key(**name)) {
            let problem = format!("the input `{name}` is reserved: callers may not set it");
            return refuse(Some(name), problem, self.describe());
        }
        if let Some(name) = inputs.keys().find(|name| self.field(name).is_none()) {
            let known = self.inputs.iter().map(|field| field.name.as_str());
            let meant = did_you_mean(name, known);
            let problem = format!("there is no input `{name}`{meant}");
            return refuse(Some(name), problem, self.describe());
        }
        if let Some((name, _)) = inputs.iter().find(|(_, value)| is_deeper(value, DEEPEST)) {
            let problem = format!("the input `{name}` is nested deeper than {DEEPEST}");
            return refuse(Some(name), problem, self.describe());
        }
        for field in &self.inputs {
            match inputs.get(&field.name) {
                None if field.required => {
                    let problem = format!("the input `{}` is missing", field.name);
                    return refuse(Some(&field.name), problem, self.describe());
                }
                None => {}
                Some(value) if field.fits(value) => {}
                Some(value) => {
                    let problem = format!("the input `{}` is {}", field.name, name_of(value));
                    return refuse(Some(&field.name), problem, field.describe());
                }
            }
        }
        Ok(())
    }

    /// The output fields, if they are known.
    #[cfg(feature = "openapi")]
    pub(crate) fn typed_outputs(&self) -> Option<Vec<OutputField<'_>>> {
        let types = self.output_types.iter().flatten().map(Option::as_deref);
        let names = self.outputs.as_ref()?.iter().map(String::as_str);
        Some(names.zip(types.chain(iter::repeat(None))).collect())
    }

    fn field(&self, name: &str) -> Option<&InputField> {
        self.inputs.iter().find(|field| field.name == name)
    }

    fn describe(&self) -> String {
        if self.inputs.is_empty() {
            return "no inputs".into();
        }
        let fields: Vec<_> = self.inputs.iter().map(InputField::describe).collect();
        fields.join(", ")
    }
}

impl InputField {
    fn describe(&self) -> String {
        let optional = if self.required { "" } else { " (optional)" };
        format!("{}: {}{optional}", self.name, self.expected)
    }

    fn fits(&self, value: &Value) -> bool {
        let Some(types) = &self.types else {
            return true;
        };
        types.iter().any(|accepted| accepted.fits(value))
    }
}

impl JsonType {
    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null)
            | (Self::Boolean, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::String, Value::String(_))
            | (Self::Array, Value::Array(_))
            | (Self::Object, Value::Object(_))
            | (Self::Unknown, _) => true,
            (Self::Integer, Value::Number(number)) => !number.is_f64(),
            (Self::StringArray, Value::Array(items)) => items.iter().all(Value::is_string),
            _ => false,
        }
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fractional number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The output fields of an answer of Python's side.
pub(super) fn into_fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::deserialize(json!({
            "inputs": [
                {"name": "question", "required": true, "expected": "str",
                 "types": ["string", "string_array"]},
                {"name": "k", "required": false, "expected": "int", "types": ["integer"]},
                {"name": "note", "required": false, "expected": "str | None",
                 "types": ["null", "string"]},
                {"name": "odd", "required": false, "expected": "Odd", "types": ["a-new-type"]},
                {"name": "any", "required": false, "expected": "any JSON value", "types": null},
            ],
            "outputs": ["answer"],
        }))
        .expect("a schema")
    }

    #[test]
    fn inputs_that_fit_the_schema_pass() {
        for inputs in [
            json!({"question": "q"}),
            json!({"question": ["a", "b"], "k": 3, "note": null, "odd": [1], "any": {"x": 1}}),
        ] {
            assert_eq!(schema().check("p", &inputs), Ok(()), "{inputs}");
        }
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused_with_field_and_expectation() {
        let cases = [
            (json!(null), None, "not a JSON object"),
            (json!([1]), None, "not a JSON object"),
            (json!({}), Some("question"), "missing"),
            (json!({"question": 5}), Some("question"), "an integer"),
            (json!({"question": null}), Some("question"), "null"),
            (json!({"question": ["a", 1]}), Some("question"), "an array"),
            (json!({"question": "q", "k": 1.5}), Some("k"), "fractional"),
            (json!({"question": "q", "k": true}), Some("k"), "a boolean"),
            (
                json!({"question": "q", "extra": 1}),
                Some("extra"),
                "no input",
            ),
            (
                json!({"questoin": "q"}),
                Some("questoin"),
                "no input `questoin`; did you mean `question`?",
            ),
        ];
        for (inputs, field, problem) in cases {
            let error = schema().check("p", &inputs).expect_err("a misfit");
            assert_eq!(error.field(), field, "{inputs}");
            assert!(error.to_string().contains(problem), "{error}");
            assert!(
                error.expected().contains(field.unwrap_or("question"))
                    || problem.starts_with("no input")
            );
        }
    }

    #[test]
    fn reserved_names_are_refused_even_as_fields() {
        for name in PRIVILEGED {
            let mut schema = schema();
            schema.inputs[4].name = name.into();
            let inputs = json!({"question": "q", name: {"api_base": "http://elsewhere"}});
            let error = schema.check("p", &inputs).expect_err("privileged");
            assert_eq!(error.field(), Some(name));
            assert!(error.to_string().contains("reserved"), "{error}");
        }
    }
}
