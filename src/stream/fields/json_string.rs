//! A decoder of JSON strings, char by char.

/// Decodes the strings of a text, one after the other. What JSON does not have is decoded as
/// `json_repair` does it.
#[derive(Debug)]
pub(super) struct JsonString {
    /// The escape sequence that has begun, or nothing.
    escape: String,
    /// The first half of a surrogate pair.
    high: Option<u32>,
    /// All that was read is JSON.
    is_strict: bool,
}

/// What a char is to a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringPart {
    Inside,
    /// The quote at the end.
    End,
    /// What cannot be decoded.
    Unknown,
}

impl Default for JsonString {
    fn default() -> Self {
        Self {
            escape: String::new(),
            high: None,
            is_strict: true,
        }
    }
}

impl JsonString {
    /// Whether all that was read is JSON.
    pub(super) fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Reads the next char after the string's first quote; passes what it stands for to `push`. Half
    /// of a surrogate pair is U+FFFD.
    pub(super) fn read(&mut self, char: char, mut push: impl FnMut(char)) -> StringPart {
        if self.escape.is_empty() {
            match char {
                '\\' => self.escape.push(char),
                '"' => {
                    self.end_pair(&mut push);
                    return StringPart::End;
                }
                _ => {
                    self.is_strict &= char >= ' ';
                    self.end_pair(&mut push);
                    push(char);
                }
            }
            return StringPart::Inside;
        }
        self.escape.push(char);
        match self.escape.as_bytes() {
            [_, b'u'] => return StringPart::Inside,
            [_, b'u', digits @ ..] if char.is_ascii_hexdigit() => {
                if digits.len() == 4 {
                    self.read_unit(&mut push);
                    self.escape.clear();
                }
                return StringPart::Inside;
            }
            [_, b'x'] => {
                self.finish(push);
                return StringPart::Unknown;
            }
            [_, b'"' | b'\\'] => self.replace(char, &mut push),
            [_, b'/'] if self.is_strict => self.replace(char, &mut push),
            [_, b'b'] => self.replace('\u{8}', &mut push),
            [_, b'f'] => self.replace('\u{c}', &mut push),
            [_, b'n'] => self.replace('\n', &mut push),
            [_, b'r'] => self.replace('\r', &mut push),
            [_, b't'] => self.replace('\t', &mut push),
            [_, b'\''] => {
                self.is_strict = false;
                self.replace(char, &mut push);
            }
            // It stays as it is. A quote or a backslash after too few digits means what it always does.
            _ => {
                self.is_strict = false;
                let is_special = matches!(char, '"' | '\\') && self.escape.len() > 2;
                if is_special {
                    self.escape.pop();
                }
                self.finish(&mut push);
                if is_special {
                    return self.read(char, push);
                }
            }
        }
        StringPart::Inside
    }

    /// The text has ended within the string: what has begun stays as it is.
    pub(super) fn finish(&mut self, mut push: impl FnMut(char)) {
        self.end_pair(&mut push);
        self.escape.drain(..).for_each(push);
    }

    fn replace(&mut self, char: char, push: &mut impl FnMut(char)) {
        self.end_pair(push);
        self.escape.clear();
        push(char);
    }

    /// The escape sequence is a unit of UTF-16.
    fn read_unit(&mut self, push: &mut impl FnMut(char)) {
        let unit = u32::from_str_radix(&self.escape[2..], 16).unwrap_or_default();
        match (self.high, unit) {
            (Some(high), 0xDC00..=0xDFFF) => {
                self.high = None;
                let code = 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00);
                push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (_, 0xD800..=0xDBFF) => {
                self.end_pair(push);
                self.high = Some(unit);
            }
            _ => {
                self.end_pair(push);
                push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }

    /// The second half of a surrogate pair does not follow.
    fn end_pair(&mut self, push: &mut impl FnMut(char)) {
        if self.high.take().is_some() {
            push(char::REPLACEMENT_CHARACTER);
        }
    }
}
