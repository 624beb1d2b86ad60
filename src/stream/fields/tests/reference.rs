//! The adapters' forms, written and read as a whole.

use super::{super::field_text::is_space, Sums};

/// What `ChatAdapter.parse` reads from a text, of these fields.
pub(super) fn chat(text: &str, names: &[&str]) -> Sums {
    let mut sections = vec![(None, Vec::new())];
    for line in split_lines(text) {
        let stripped = line.trim_matches(is_space);
        if let Some((name, header)) = header(stripped) {
            // As DSPy does: the length of the header, from the beginning of the line.
            let rest: String = line.chars().skip(header.chars().count()).collect();
            let rest = rest.trim_matches(is_space).to_owned();
            let lines = if rest.is_empty() { vec![] } else { vec![rest] };
            sections.push((Some(name.to_owned()), lines));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    let mut values = Sums::new();
    for (name, lines) in sections {
        let Some(name) = name.filter(|name| names.contains(&name.as_str())) else {
            continue;
        };
        let value = lines.join("\n").trim_matches(is_space).to_owned();
        values.entry(name).or_insert(value);
    }
    values.retain(|_, value| !value.is_empty());
    values
}

/// Python's `str.splitlines`.
fn split_lines(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let breaks = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";
    let mut lines: Vec<_> = text
        .split(|char| breaks.contains(char))
        .map(str::to_owned)
        .collect();
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// The name in the header at the beginning of a line, and the header.
fn header(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("[[ ## ")?;
    let is_word = |char: char| char == '_' || char.is_alphanumeric();
    let end = rest.find(|char| !is_word(char)).filter(|end| *end > 0)?;
    let after = rest[end..].strip_prefix(" ## ]]")?;
    Some((&rest[..end], &line[..line.len() - after.len()]))
}

pub(super) fn write_chat(fields: &[(&str, String)]) -> String {
    let section = |(name, text): &(&str, String)| format!("[[ ## {name} ## ]]\n{text}\n\n");
    let sections: String = fields.iter().map(section).collect();
    sections + "[[ ## completed ## ]]\n"
}

/// Each char of which `escapes` says so is written as an escape sequence with its code.
pub(super) fn write_json(fields: &[(&str, String)], escapes: &[bool]) -> String {
    let mut escapes = escapes.iter().cycle();
    let mut string = |text: &str| {
        let mut json = String::from('"');
        for char in text.chars() {
            if *escapes.next().unwrap_or(&false) {
                let units = char.encode_utf16(&mut [0; 2]).to_vec();
                json.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            } else {
                json.push_str(serde_json::to_string(&char).unwrap().trim_matches('"'));
                if char == '"' {
                    json.push('"');
                }
            }
        }
        json + "\""
    };
    let members: Vec<_> = fields
        .iter()
        .map(|(name, text)| format!("  {}: {}", string(name), string(text)))
        .collect();
    format!("{{\n{}\n}}", members.join(",\n"))
}

pub(super) fn write_xml(fields: &[(&str, String)]) -> String {
    let element = |(name, text): &(&str, String)| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        format!("<{name}>\n{text}\n</{name}>")
    };
    fields.iter().map(element).collect::<Vec<_>>().join("\n\n")
}
