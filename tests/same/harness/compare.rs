//! The differences between two JSON values.

use serde_json::{Value, json};

/// The places where `hosted` is not `plain`, at most a few.
pub(super) fn differences(plain: &Value, hosted: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", plain, hosted, &mut found);
    const MOST: usize = 6;
    if found.len() > MOST {
        let more = found.len() - MOST;
        found.truncate(MOST);
        found.push(format!("and {more} more"));
    }
    found
}

fn compare(place: &str, plain: &Value, hosted: &Value, found: &mut Vec<String>) {
    match (plain, hosted) {
        (Value::Object(plain), Value::Object(hosted)) => {
            for (name, value) in plain {
                let place = format!("{place}/{name}");
                match hosted.get(name) {
                    Some(other) => compare(&place, value, other, found),
                    None => found.push(format!("{place}: plain {}, host none", short(value))),
                }
            }
            for (name, value) in hosted {
                if !plain.contains_key(name) {
                    found.push(format!("{place}/{name}: plain none, host {}", short(value)));
                }
            }
        }
        (Value::Array(plain), Value::Array(hosted)) if plain.len() == hosted.len() => {
            for (n, (plain, hosted)) in plain.iter().zip(hosted).enumerate() {
                compare(&format!("{place}/{n}"), plain, hosted, found);
            }
        }
        (Value::Array(plain), Value::Array(hosted)) => {
            let (plain, hosted) = (plain.len(), hosted.len());
            found.push(format!("{place}: plain {plain}, host {hosted} of them"));
        }
        _ if plain == hosted => {}
        (Value::String(plain), Value::String(hosted)) => {
            let (plain, hosted) = part(plain, hosted);
            let (plain, hosted) = (short(&json!(plain)), short(&json!(hosted)));
            found.push(format!("{place}: plain {plain}, host {hosted}"));
        }
        _ => {
            let (plain, hosted) = (short(plain), short(hosted));
            found.push(format!("{place}: plain {plain}, host {hosted}"));
        }
    }
}

/// Two texts from a little before the place where they part.
fn part<'a>(plain: &'a str, hosted: &'a str) -> (&'a str, &'a str) {
    const BEFORE: usize = 30;
    let both = plain.chars().zip(hosted.chars());
    let same = both.take_while(|(one, other)| one == other).count();
    let start = plain.char_indices().nth(same.saturating_sub(BEFORE));
    // What they have in common is as long in both.
    let start = start.map_or(0, |(start, _)| start);
    (&plain[start..], &hosted[start..])
}

fn short(value: &Value) -> String {
    clipped(&value.to_string(), 160)
}

/// The first `most` characters of a text.
pub(super) fn clipped(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push_str("..");
    }
    short
}
