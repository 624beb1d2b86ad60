//! The formats in which DSPy asks for fields and reads them: those of its `ChatAdapter` and its
//! `JSONAdapter`.

use serde_json::{Map, Value};

/// Fields as `ChatAdapter` reads them, or as a JSON object.
pub(super) fn render(fields: &[(String, String)], json: bool) -> String {
    if json {
        let object: Map<String, Value> = fields
            .iter()
            .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
            .collect();
        return Value::from(object).to_string();
    }
    let mut text = String::new();
    for (name, value) in fields {
        text += &format!("[[ ## {name} ## ]]\n{value}\n\n");
    }
    text + "[[ ## completed ## ]]"
}

/// Whether the prompt itself asks for a JSON object: `JSONAdapter` does, and sends no
/// `response_format` to a model it does not know.
pub(super) fn wants_json(prompt: &str) -> bool {
    split(prompt).1.starts_with("Respond with a JSON object")
}

/// Answers a prompt with itself: each field it asks for says what its input was.
pub(super) fn echo(prompt: &str, json: bool) -> String {
    let (input, instruction) = split(prompt);
    let input = input.lines().filter(|line| marked(line).is_none());
    let input: Vec<&str> = input.flat_map(str::split_whitespace).collect();
    let text = format!("You said: {}", input.join(" "));
    let names = asked(instruction);
    if names.is_empty() {
        return text;
    }
    let fields: Vec<_> = names.into_iter().map(|name| (name, text.clone())).collect();
    render(&fields, json)
}

/// Parts a prompt into its input and the instruction how to answer.
fn split(prompt: &str) -> (&str, &str) {
    // The last of its kind: the input before it may hold the same words.
    match prompt.rfind("Respond with") {
        Some(at) => prompt.split_at(at),
        None => (prompt, ""),
    }
}

/// The names of the output fields that an instruction asks for.
fn asked(instruction: &str) -> Vec<String> {
    let quoted = instruction.split('`').skip(1).step_by(2);
    quoted
        .map(|name| marked(name).unwrap_or(name).to_owned())
        .filter(|name| name != "completed")
        .collect()
}

/// The name in a marker like `[[ ## name ## ]]`.
fn marked(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("[[ ## ")?;
    inner.strip_suffix(" ## ]]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_marked_for_the_chat_adapter() {
        let fields = [("answer".to_owned(), "Paris".to_owned())];
        assert_eq!(
            render(&fields, false),
            "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
        );
        assert_eq!(render(&fields, true), r#"{"answer":"Paris"}"#);
    }

    #[test]
    fn an_echo_fills_each_field_the_chat_adapter_asks_for() {
        let prompt = "[[ ## question ## ]]\nWhat is\n`this`?\n\nRespond with the corresponding \
            output fields, starting with the field `[[ ## reasoning ## ]]`, then `[[ ## answer ## \
            ]]`, and then ending with the marker for `[[ ## completed ## ]]`.";
        assert_eq!(
            echo(prompt, false),
            "[[ ## reasoning ## ]]\nYou said: What is `this`?\n\n[[ ## answer ## ]]\nYou said: \
            What is `this`?\n\n[[ ## completed ## ]]"
        );
    }

    #[test]
    fn an_echo_is_json_where_the_prompt_asks_for_json() {
        let prompt = "[[ ## question ## ]]\nHm?\n\nRespond with a JSON object in the following \
            order of fields: `answer`.";
        assert!(wants_json(prompt) && !wants_json("ping"));
        assert_eq!(echo(prompt, true), r#"{"answer":"You said: Hm?"}"#);
    }

    #[test]
    fn an_echo_of_another_prompt_is_plain_text() {
        assert_eq!(echo("ping", false), "You said: ping");
        assert_eq!(echo("", false), "You said: ");
    }
}
