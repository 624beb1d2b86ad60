//! Tags, references and escapes of XML, as `xml.etree.ElementTree` reads and writes them.

use super::field_text::FieldText;

/// A tag without its brackets.
#[derive(Clone, Copy, Debug)]
pub(super) struct XmlTag<'a> {
    pub(super) name: &'a str,
    /// What follows the name.
    pub(super) attributes: &'a str,
    pub(super) is_end: bool,
    /// The element has no content.
    pub(super) is_empty: bool,
}

impl<'a> XmlTag<'a> {
    /// Reads what stands after `<`, with the `>`. `None`: it is no tag, or has a namespace, under
    /// which names change.
    pub(super) fn new(markup: &'a str) -> Option<Self> {
        let tag = markup.strip_suffix('>')?;
        let (tag, is_end) = match tag.strip_prefix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let (tag, is_empty) = match tag.strip_suffix('/') {
            Some(tag) if !is_end => (tag, true),
            _ => (tag, false),
        };
        let end = tag.find(is_xml_space).unwrap_or(tag.len());
        let (name, attributes) = tag.split_at(end);
        let attributes = attributes.trim_matches(is_xml_space);
        let mut chars = name.chars();
        let is_name = chars.next().is_some_and(is_name_start) && chars.all(is_name_char);
        (is_name && (attributes.is_empty() || !is_end)).then_some(Self {
            name,
            attributes,
            is_end,
            is_empty,
        })
    }

    /// Writes the start tag without its `>`. `None`: an attribute is not well-formed, or has a
    /// namespace.
    pub(super) fn write_start(&self, text: &mut FieldText) -> Option<()> {
        text.push('<');
        text.push_str(self.name);
        let mut rest = self.attributes;
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            let name = name.trim_end_matches(is_xml_space);
            if name == "xmlns" || !name.chars().all(is_name_char) {
                return None;
            }
            let after = after.trim_start_matches(is_xml_space);
            let quote = after.chars().next().filter(|char| "\"'".contains(*char))?;
            let (value, after) = after[1..].split_once(quote)?;
            text.push(' ');
            text.push_str(name);
            text.push_str("=\"");
            write_value(value, text)?;
            text.push('"');
            rest = after.trim_start_matches(is_xml_space);
        }
        Some(())
    }
}

/// Writes the value of an attribute.
fn write_value(mut value: &str, text: &mut FieldText) -> Option<()> {
    while let Some(char) = value.chars().next() {
        value = &value[char.len_utf8()..];
        let char = match char {
            '&' => {
                let (reference, after) = value.split_once(';')?;
                value = after;
                decode_reference(reference)?
            }
            '<' => return None,
            '\n' | '\t' => ' ',
            char => char,
        };
        match char {
            '"' => text.push_str("&quot;"),
            '\n' => text.push_str("&#10;"),
            '\r' => text.push_str("&#13;"),
            '\t' => text.push_str("&#09;"),
            char => escape_text(char, text),
        }
    }
    Some(())
}

/// Writes a char of text.
pub(super) fn escape_text(char: char, text: &mut FieldText) {
    match char {
        '&' => text.push_str("&amp;"),
        '<' => text.push_str("&lt;"),
        '>' => text.push_str("&gt;"),
        char => text.push(char),
    }
}

/// The char that a reference stands for, without its `&` and `;`.
pub(super) fn decode_reference(reference: &str) -> Option<char> {
    let code = match reference {
        "amp" => return Some('&'),
        "apos" => return Some('\''),
        "gt" => return Some('>'),
        "lt" => return Some('<'),
        "quot" => return Some('"'),
        _ => reference.strip_prefix('#')?,
    };
    let (digits, radix) = match code.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (code, 10),
    };
    if !digits.chars().all(|char| char.is_digit(radix)) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
        .filter(|char| *char >= ' ' || matches!(char, '\t' | '\n' | '\r'))
}

/// Whether a name may begin with the char; a `:` would be a namespace.
pub(super) fn is_name_start(char: char) -> bool {
    char == '_' || char.is_alphabetic()
}

fn is_name_char(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '\u{b7}')
}

fn is_xml_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n')
}
