//! The grammar of `XMLAdapter`: an element for each field, below a root that DSPy adds.
//!
//! The text between the elements belongs to no field. A text that is not well-formed is refused by
//! DSPy as a whole: the parser stops where it sees that.

use super::{
    field_text::FieldText,
    xml_tag::{XmlTag, decode_reference, escape_text, is_name_start},
};

const COMMENT: &str = "!--";
const CDATA: &str = "![CDATA[";
/// The longest reference; a number may begin with zeros.
const MOST_REFERENCE: usize = 32;

/// Reads a text in the form of `XMLAdapter`.
#[derive(Debug, Default)]
pub(super) struct XmlParser {
    place: XmlPlace,
    /// Of the markup or the reference that has begun, what follows the `<` or the `&`.
    markup: String,
    /// The elements that are open.
    depth: usize,
    /// The field has elements of its own: they are part of its text, as XML.
    is_mixed: bool,
    /// The `>` of the last start tag is not written yet: an element without content becomes
    /// `<tag />`.
    in_start_tag: bool,
    after_return: bool,
}

/// A place in the text.
#[derive(Clone, Copy, Debug, Default)]
enum XmlPlace {
    #[default]
    Text,
    Reference,
    /// After a `<`, before it is known what it begins.
    Markup,
    Tag {
        /// Within a value in such quotes.
        quote: Option<char>,
    },
    Comment,
    Instruction,
    /// In a section of CDATA, after so many `]`.
    Cdata(usize),
    /// After what is not well-formed.
    End,
}

impl XmlParser {
    pub(super) fn read(&mut self, char: char, text: &mut FieldText) {
        let after_return = std::mem::replace(&mut self.after_return, char == '\r');
        let char = match char {
            '\n' if after_return => return,
            '\r' => '\n',
            char => char,
        };
        let place = match self.place {
            XmlPlace::End => Some(XmlPlace::End),
            _ if char < ' ' && !matches!(char, '\n' | '\t') => None,
            XmlPlace::Text => match char {
                '<' => Some(XmlPlace::Markup),
                '&' => Some(XmlPlace::Reference),
                _ => {
                    self.push(char, text);
                    Some(XmlPlace::Text)
                }
            },
            XmlPlace::Cdata(brackets) => Some(self.read_cdata(char, brackets, text)),
            place => {
                self.markup.push(char);
                self.read_markup(char, place, text)
            }
        };
        if matches!(place, Some(XmlPlace::Text) | None) {
            self.markup.clear();
        }
        self.place = place.unwrap_or_else(|| {
            text.close();
            XmlPlace::End
        });
    }

    /// Reads a char of markup or of a reference. `None`: it is not well-formed.
    fn read_markup(
        &mut self,
        char: char,
        place: XmlPlace,
        text: &mut FieldText,
    ) -> Option<XmlPlace> {
        let markup = self.markup.as_str();
        Some(match place {
            XmlPlace::Reference if char == ';' => {
                let char = decode_reference(markup.strip_suffix(';')?)?;
                self.push(char, text);
                XmlPlace::Text
            }
            XmlPlace::Reference if markup.len() < MOST_REFERENCE => XmlPlace::Reference,
            XmlPlace::Markup if markup == COMMENT => XmlPlace::Comment,
            XmlPlace::Markup if markup == CDATA => XmlPlace::Cdata(0),
            XmlPlace::Markup if markup == "?" => XmlPlace::Instruction,
            XmlPlace::Markup if COMMENT.starts_with(markup) || CDATA.starts_with(markup) => place,
            XmlPlace::Markup if is_name_start(char) || markup == "/" => {
                XmlPlace::Tag { quote: None }
            }
            XmlPlace::Tag { quote: None } => match char {
                '>' => {
                    self.read_tag(text)?;
                    XmlPlace::Text
                }
                '<' => return None,
                '"' | '\'' => XmlPlace::Tag { quote: Some(char) },
                _ => place,
            },
            XmlPlace::Tag { quote } if quote == Some(char) => XmlPlace::Tag { quote: None },
            XmlPlace::Tag { .. } => place,
            XmlPlace::Comment if markup.len() >= "!---->".len() && markup.ends_with("-->") => {
                XmlPlace::Text
            }
            XmlPlace::Instruction if markup.ends_with("?>") => XmlPlace::Text,
            XmlPlace::Comment | XmlPlace::Instruction => place,
            _ => return None,
        })
    }

    fn read_cdata(&mut self, char: char, brackets: usize, text: &mut FieldText) -> XmlPlace {
        match char {
            ']' => {
                // Of three, the first is text.
                if brackets == 2 {
                    self.push(']', text);
                }
                XmlPlace::Cdata(2.min(brackets + 1))
            }
            '>' if brackets == 2 => XmlPlace::Text,
            _ => {
                for _ in 0..brackets {
                    self.push(']', text);
                }
                self.push(char, text);
                XmlPlace::Cdata(0)
            }
        }
    }

    /// Reads the tag in `markup`. `None`: it is not well-formed.
    fn read_tag(&mut self, text: &mut FieldText) -> Option<()> {
        let markup = std::mem::take(&mut self.markup);
        let tag = XmlTag::new(&markup)?;
        if tag.is_end {
            self.end_element(tag.name, text)?;
            return Some(());
        }
        if self.depth == 0 {
            // The name of an entry is its key.
            if tag.name != "entry" || tag.attributes.is_empty() {
                text.open(tag.name, true);
            }
            self.is_mixed = false;
        } else if text.is_open() {
            self.end_start_tag(text);
            // Whitespace counts, at the end of the text as well.
            text.keep_space();
            self.is_mixed = true;
            self.in_start_tag = true;
            tag.write_start(text)?;
        }
        self.depth += 1;
        if tag.is_empty {
            self.end_element(tag.name, text)?;
        }
        Some(())
    }

    fn end_element(&mut self, name: &str, text: &mut FieldText) -> Option<()> {
        self.depth = self.depth.checked_sub(1)?;
        if self.depth == 0 {
            if self.is_mixed {
                text.keep_space();
            }
            text.close();
        } else if std::mem::take(&mut self.in_start_tag) {
            text.push_str(" />");
        } else {
            text.push_str("</");
            text.push_str(name);
            text.push('>');
        }
        Some(())
    }

    fn push(&mut self, char: char, text: &mut FieldText) {
        if self.is_mixed {
            self.end_start_tag(text);
            escape_text(char, text);
        } else {
            text.push(char);
        }
    }

    fn end_start_tag(&mut self, text: &mut FieldText) {
        if std::mem::take(&mut self.in_start_tag) {
            text.push('>');
        }
    }
}
