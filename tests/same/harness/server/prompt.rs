//! The text of an answer: the output fields that a prompt asks for, in its adapter's format.

use std::fmt::Write;

use serde_json::{Map, Value, json};

/// An answer with `given` fields; those that the prompt asks for and `given` lacks are made up.
pub(super) fn answer(body: &Value, given: &Map<String, Value>) -> String {
    let mut prompt = String::new();
    collect(body, &mut prompt);
    let mut fields = Map::new();
    for (name, annotation) in asked(&prompt) {
        let value = given.get(&name).cloned();
        fields.insert(name, value.unwrap_or_else(|| made_up(&annotation)));
    }
    // A prompt that is no adapter's, and fields that are wrong on purpose.
    for (name, value) in given {
        fields.entry(name.clone()).or_insert_with(|| value.clone());
    }
    match Format::of(body, &prompt) {
        Format::Json => Value::Object(fields).to_string(),
        Format::Xml => fields
            .iter()
            .map(|(name, value)| xml(name, value))
            .collect(),
        Format::Chat => chat(&fields),
        Format::Text if fields.is_empty() => "an answer".to_owned(),
        Format::Text => fields
            .iter()
            .fold(String::new(), |mut text, (name, value)| {
                let _ = writeln!(text, "{name}: {}", plain(value));
                text
            }),
    }
}

enum Format {
    Json,
    Xml,
    Chat,
    Text,
}

impl Format {
    fn of(body: &Value, prompt: &str) -> Self {
        let structured = |pointer: &str| {
            let kind = body.pointer(pointer).and_then(Value::as_str);
            kind.is_some_and(|kind| kind.contains("json"))
        };
        let json = [
            "/response_format/type",
            "/text/format/type",
            "/output_config/format/type",
            "/generationConfig/responseMimeType",
        ];
        if json.into_iter().any(structured)
            || prompt.contains("Respond with a JSON object in the following order")
        {
            Self::Json
        } else if prompt.contains("wrapped in XML tags") {
            Self::Xml
        } else if prompt.contains("[[ ## completed ## ]]") {
            Self::Chat
        } else {
            Self::Text
        }
    }
}

/// All texts of a request.
fn collect(value: &Value, prompt: &mut String) {
    match value {
        Value::String(text) => {
            prompt.push_str(text);
            prompt.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, prompt)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, prompt)),
        _ => {}
    }
}

/// The names and types of the output fields, as adapters list them.
fn asked(prompt: &str) -> Vec<(String, String)> {
    let list = ["Your output fields are:\n", "Your outputs must contain:\n"];
    let Some((_, list)) = list.iter().find_map(|start| prompt.split_once(start)) else {
        return vec![];
    };
    let mut fields = Vec::new();
    for line in list.lines() {
        if line.starts_with("All interactions") || line.starts_with("You should lay out") {
            break;
        }
        let Some((number, field)) = line.split_once(". `") else {
            continue;
        };
        if number.parse::<u32>().is_err() {
            continue;
        }
        if let Some((name, annotation)) = field.split_once("` (") {
            fields.push((name.to_owned(), annotation.to_owned()));
        }
    }
    fields
}

/// A value of a type, which is named as in a prompt.
fn made_up(annotation: &str) -> Value {
    if let Some(choices) = annotation.strip_prefix("Literal[") {
        // An agent finishes.
        if choices.contains("'finish'") {
            return json!("finish");
        }
        let first = choices.split([',', ']']).next().unwrap_or_default();
        return json!(first.trim_matches(['\'', '"']));
    }
    match annotation.split(['[', ')', ' ']).next().unwrap_or_default() {
        "int" => json!(7),
        "float" => json!(0.5),
        "bool" => json!(true),
        "list" => json!([]),
        "dict" => json!({}),
        "Optional" | "Union" | "NoneType" => Value::Null,
        _ => json!("an answer"),
    }
}

fn chat(fields: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let _ = write!(text, "[[ ## {name} ## ]]\n{}\n\n", plain(value));
    }
    text + "[[ ## completed ## ]]"
}

fn xml(name: &str, value: &Value) -> String {
    let inner = match value {
        Value::Array(items) => items.iter().map(|item| xml("item", item)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| xml(name, value))
            .collect(),
        value => plain(value),
    };
    format!("<{name}>{inner}</{name}>\n")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
