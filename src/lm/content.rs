//! The reader of an answer's content, as the answer passes by: it tells what the model has
//! produced from what only keeps the connection open.

use http::{HeaderMap, header::CONTENT_TYPE};

use super::stream_event::content;

/// The longest line that is read. A longer one, an image perhaps, is content piece by piece.
const MOST: usize = 16 * 1024;

/// Bytes of an answer's text for a token of it.
const BYTES_OF_TOKEN: u64 = 4;

/// Names of server-sent events that only keep the connection open.
const PINGS: [&[u8]; 4] = [b"ping", b"keepalive", b"keep-alive", b"heartbeat"];

/// How the body of an answer is cut into events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFormat {
    /// It is one answer, or of a form that is not read. White space before it is no content.
    Whole,
    /// Server-sent events.
    Events,
    /// JSON, a value a line.
    Lines,
}

impl BodyFormat {
    /// That of the body below this head.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        let is = |name: &str| kind.starts_with(name.as_bytes());
        if is("text/event-stream") {
            Self::Events
        } else if is("application/x-ndjson") || is("application/stream+json") {
            Self::Lines
        } else {
            Self::Whole
        }
    }
}

/// Reads an answer piece by piece, cut anywhere.
#[derive(Debug)]
pub(super) struct ContentReader {
    format: BodyFormat,
    /// The beginning of a line, where a piece ended within it.
    line: Vec<u8>,
    /// Within a line that is too long to be read: whether it is content.
    long: Option<bool>,
    /// After a carriage return: a line feed would belong to the same end of a line.
    after_return: bool,
    /// Within an event that is named as a ping.
    ping: bool,
    /// Whether there was content.
    begun: bool,
    /// How many pings, comments and empty events came since the last content.
    empty: u32,
    /// How many events of a stream had text.
    texts: u64,
    /// The bytes of these texts; of a whole answer all.
    bytes: u64,
}

impl ContentReader {
    /// A reader of the body below this head.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self::new(BodyFormat::of(headers))
    }

    fn new(format: BodyFormat) -> Self {
        Self {
            format,
            line: Vec::new(),
            long: None,
            after_return: false,
            ping: false,
            begun: false,
            empty: 0,
            texts: 0,
            bytes: 0,
        }
    }

    /// Whether there was content so far.
    pub(super) const fn begun(&self) -> bool {
        self.begun
    }

    /// About how many tokens of the answer came: as many as its text is long, and at least one in each
    /// event of a stream that has text.
    pub(super) fn tokens(&self) -> u64 {
        self.texts.max(self.bytes.div_ceil(BYTES_OF_TOKEN))
    }

    /// How many pings, comments and empty events came since the last content.
    pub(super) const fn empty(&self) -> u32 {
        self.empty
    }

    /// Reads a piece; true if it has content, or completes an event that has.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        let found = match self.format {
            BodyFormat::Whole => {
                let found = self.begun || !bytes.trim_ascii_start().is_empty();
                self.bytes += if found { bytes.len() as u64 } else { 0 };
                found
            }
            BodyFormat::Events | BodyFormat::Lines => self.read_lines(bytes),
        };
        self.begun |= found;
        found
    }

    fn read_lines(&mut self, bytes: &[u8]) -> bool {
        let mut found = false;
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let end = part.last().filter(|byte| matches!(byte, b'\n' | b'\r'));
            let text = &part[..part.len() - usize::from(end.is_some())];
            let rest_of_end = self.after_return && part == b"\n";
            self.after_return = end == Some(&b'\r');
            if rest_of_end {
                continue;
            }
            if self.line.len() + text.len() > MOST && self.long.is_none() {
                self.line.extend_from_slice(&text[..text.len().min(1)]);
                let comment = self.format == BodyFormat::Events && self.line.first() == Some(&b':');
                self.long = Some(!comment && !self.ping);
                self.line.clear();
            }
            if let Some(content) = self.long {
                // A piece of an image, perhaps: its length says nothing.
                found |= self.count((content && !text.is_empty()).then_some(1));
            } else if end.is_none() {
                self.line.extend_from_slice(text);
            } else if self.line.is_empty() {
                found |= self.read_line(text);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(text);
                found |= self.read_line(&line);
                line.clear();
                self.line = line;
            }
            if end.is_some() {
                self.long = None;
            }
        }
        found
    }

    /// Reads a whole line, without its end; true if it is content.
    fn read_line(&mut self, line: &[u8]) -> bool {
        if self.format == BodyFormat::Lines {
            return self.count(content(line));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            // The end of an event.
            b"" if colon.is_none() => self.ping = false,
            b"event" => self.ping = PINGS.contains(&value),
            b"id" | b"retry" => {}
            // A comment.
            b"" => return self.count(None),
            b"data" => return self.count(content(value).filter(|_| !self.ping)),
            // No line of such a stream: an error of a server that says that it is one, perhaps.
            _ => return self.count(Some(0)),
        }
        false
    }

    /// Counts an event with so many bytes of text, if it has content.
    fn count(&mut self, content: Option<u64>) -> bool {
        let Some(bytes) = content else {
            self.empty = self.empty.saturating_add(1);
            return false;
        };
        self.empty = 0;
        self.texts += u64::from(bytes > 0);
        self.bytes += bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    const TEXT: &str = r#"data: {"choices":[{"delta":{"content":"ça 😀"}}]}"#;
    const ROLE: &str = r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#;

    fn events() -> ContentReader {
        ContentReader::new(BodyFormat::Events)
    }

    fn lines() -> ContentReader {
        ContentReader::new(BodyFormat::Lines)
    }

    #[test]
    fn only_the_data_of_events_is_content() {
        for empty in [
            "\n",
            "\r\n\r\n",
            ": keep-alive\n\n",
            ":\n",
            "event: message_start\n",
            "id: 7\nretry: 100\n",
            "data:\n\n",
            "data: {}\n\n",
            "event: ping\ndata: 2026-11-29\n\n",
            "event: ping\r\ndata: {\"now\": 3}\r\n\r\n",
            "event: heartbeat\rdata: x\r\r",
            // Not yet complete.
            TEXT,
            &format!("{ROLE}\n\n"),
        ] {
            assert!(!events().read(empty.as_bytes()), "{empty}");
        }
        for content in [
            &format!("{TEXT}\n"),
            &format!("{TEXT}\r"),
            &format!(": ping\n\n{ROLE}\n\n{TEXT}\n\n: ping\n\n"),
            "event: ping\n\ndata: x\n\n",
            "data: [DONE]\n\n",
            "data:[DONE]\n",
            "{\"error\": 1}\n",
        ] {
            assert!(events().read(content.as_bytes()), "{content}");
        }
    }

    #[test]
    fn empty_lines_of_a_stream_of_json_are_no_content() {
        assert!(!lines().read(b"\n\n{\"done\":false}\n{\"response\":\"a\""));
        assert!(lines().read(b"{\"response\":\"a\",\"done\":false}\n"));
    }

    #[test]
    fn the_content_type_says_how_a_body_is_cut() {
        let reader = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().expect("a value"));
            ContentReader::of(&headers).format
        };
        assert_eq!(
            reader("Text/Event-Stream; charset=utf-8"),
            BodyFormat::Events
        );
        assert_eq!(reader("application/x-ndjson"), BodyFormat::Lines);
        assert_eq!(reader("application/json"), BodyFormat::Whole);
        let frames = reader("application/vnd.amazon.eventstream");
        assert_eq!(frames, BodyFormat::Whole);
        let mut untyped = ContentReader::of(&HeaderMap::new());
        assert!(!untyped.read(b" \n"));
        assert!(untyped.read(b"{"));
        assert!(untyped.read(b" \n"), "white space after the beginning");
    }

    #[test]
    fn a_line_that_is_too_long_is_content_while_it_comes_and_takes_no_memory() {
        let piece = [b'a'; 1000];
        let mut reader = events();
        assert!(!reader.read(b"data: "));
        let read: Vec<_> = (0..100).map(|_| reader.read(&piece)).collect();
        assert_eq!(read.iter().position(|content| *content), Some(16));
        assert!(read[16..].iter().all(|content| *content));
        assert!(reader.line.capacity() <= 2 * MOST);
        assert!(!reader.read(b"\n\n: ping\n"));
        assert!(reader.read(&[TEXT.as_bytes(), b"\n"].concat()));

        let mut comment = events();
        comment.read(b": ");
        assert!((0..100).all(|_| !comment.read(&piece)));
    }

    #[test]
    fn what_came_since_the_last_content_is_counted() {
        let mut reader = events();
        reader.read(b": ping\n\nevent: ping\ndata: {}\n\n");
        reader.read(format!("{ROLE}\n\n").as_bytes());
        assert_eq!((reader.empty(), reader.begun()), (3, false));
        reader.read(format!("{TEXT}\n\n: ping\n\n").as_bytes());
        assert_eq!((reader.empty(), reader.begun()), (1, true));
    }

    #[test]
    fn the_tokens_of_an_answer_are_estimated_by_its_events_and_its_length() {
        let mut reader = events();
        assert_eq!(reader.tokens(), 0);
        for (text, tokens) in [("a", 1), ("b", 2), (&*"c".repeat(40), 11)] {
            let event = format!("data: {{\"response\":\"{text}\",\"done\":false}}\n\n: ping\n");
            reader.read(event.as_bytes());
            assert_eq!(reader.tokens(), tokens);
        }
        reader.read(b"data: [DONE]\n\n");
        assert_eq!(reader.tokens(), 11);
        let mut whole = ContentReader::new(BodyFormat::Whole);
        whole.read(b" \n");
        whole.read(&[b'a'; 100]);
        assert_eq!(whole.tokens(), 25);
    }

    fn parts() -> impl Strategy<Value = Vec<&'static str>> {
        let parts = [
            TEXT,
            ROLE,
            ": ping",
            "event: ping",
            "event: x",
            "data: 3",
            "data: {}",
            "",
            "é",
        ];
        let ends = ["\n", "\r\n", "\r"];
        vec(
            (
                prop::sample::select(parts.to_vec()),
                prop::sample::select(ends.to_vec()),
            ),
            0..20,
        )
        .prop_map(|lines| {
            lines
                .into_iter()
                .flat_map(|(line, end)| [line, end])
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_cuts_of_a_body_do_not_change_what_is_content(
            parts in parts(),
            cuts in vec(any::<Index>(), 0..30),
        ) {
            let body = parts.concat().into_bytes();
            for new in [events, lines] {
                let mut whole = new();
                let found = whole.read(&body);
                let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
                at.sort_unstable();
                at.push(body.len());
                let (mut reader, mut from, mut any) = (new(), 0, false);
                for to in at {
                    any |= reader.read(&body[from..to]);
                    from = to;
                }
                let counts = |reader: &ContentReader| (reader.empty(), reader.tokens());
                prop_assert_eq!((any, counts(&reader)), (found, counts(&whole)));
            }
        }

        #[test]
        fn no_body_makes_the_reader_panic(
            pieces in vec(vec(any::<u8>(), 0..40_000), 0..4),
        ) {
            for mut reader in [events(), lines()] {
                for piece in &pieces {
                    reader.read(piece);
                }
                prop_assert!(reader.line.len() <= MOST);
            }
        }
    }
}
