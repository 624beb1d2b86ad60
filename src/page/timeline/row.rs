//! A row of a timeline: bars one after the other, and marks on them.

use std::time::Duration;

use super::stages::Span;

/// One row. Its bars do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// What it shows, in a few words.
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<Mark>,
    /// The time that the work was given to clean up.
    pub(super) grace: Option<Span>,
    /// What is to know about it, in a phrase; empty if its bars say it.
    pub(super) label: String,
    /// Another attempt answered first.
    pub(super) is_struck: bool,
}

/// A stage of the call as a bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) stage: Stage,
    pub(super) span: Span,
    /// Its name; with its beginning and its length it is the tooltip.
    pub(super) name: String,
}

/// An instant on a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) kind: MarkKind,
    pub(super) at: Duration,
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkKind {
    /// The limit of an attempt.
    Limit,
    /// A part of an LM's answer came.
    Content,
    /// A connection was closed before the answer was there.
    Closed,
    /// It failed.
    Failed,
    /// Code of the call blocked the loop from about then on.
    Block,
}

impl MarkKind {
    pub(super) const ALL: [Self; 5] = [
        Self::Limit,
        Self::Content,
        Self::Closed,
        Self::Failed,
        Self::Block,
    ];

    /// The class of its marks in the style sheet.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Limit => "tl-limit",
            Self::Content => "tl-content",
            Self::Closed => "tl-closed",
            Self::Failed => "tl-failed",
            Self::Block => "tl-block",
        }
    }

    /// What it is, for a legend.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit of an attempt",
            Self::Content => "first or last content",
            Self::Closed => "connection closed",
            Self::Failed => "failed",
            Self::Block => "blocks the loop",
        }
    }

    /// Its letter in a picture of characters.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Limit => 'L',
            Self::Content => 'v',
            Self::Closed => 'x',
            Self::Failed => '!',
            Self::Block => 'B',
        }
    }
}

/// What goes on in a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Backoff,
    Permit,
    Queue,
    Attempt,
    Python,
    Connect,
    FirstByte,
    Body,
    Tool,
    NotShown,
    CleanUp,
    Stray,
    Nobody,
}

impl Stage {
    pub(super) const ALL: [Self; 13] = [
        Self::Backoff,
        Self::Permit,
        Self::Queue,
        Self::Attempt,
        Self::Python,
        Self::Connect,
        Self::FirstByte,
        Self::Body,
        Self::Tool,
        Self::NotShown,
        Self::CleanUp,
        Self::Stray,
        Self::Nobody,
    ];

    /// The class of its bars in the style sheet.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Backoff => "tl-backoff",
            Self::Permit => "tl-permit",
            Self::Queue => "tl-queue",
            Self::Attempt => "tl-attempt",
            Self::Python => "tl-python",
            Self::Connect => "tl-connect",
            Self::FirstByte => "tl-first-byte",
            Self::Body => "tl-body",
            Self::Tool => "tl-tool",
            Self::NotShown => "tl-not-shown",
            Self::CleanUp => "tl-clean-up",
            Self::Stray => "tl-stray",
            Self::Nobody => "tl-nobody",
        }
    }

    /// What it is, for a legend.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Backoff => "backoff",
            Self::Permit => "waits for a permit",
            Self::Queue => "waits in the queue",
            Self::Attempt => "attempt",
            Self::Python => "in Python",
            Self::Connect => "LM: connects",
            Self::FirstByte => "LM: waits for its first byte",
            Self::Body => "LM: answer comes",
            Self::Tool => "tool",
            Self::NotShown => "not shown",
            Self::CleanUp => "clean-up",
            Self::Stray => "left behind",
            Self::Nobody => "work for nobody",
        }
    }

    /// Its letter in a picture of characters.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Backoff => '.',
            Self::Permit => 'p',
            Self::Queue => 'q',
            Self::Attempt => '=',
            Self::Python => 'P',
            Self::Connect => '-',
            Self::FirstByte => '~',
            Self::Body => '#',
            Self::Tool => 't',
            Self::NotShown => ':',
            Self::CleanUp => 'c',
            Self::Stray => 's',
            Self::Nobody => '/',
        }
    }
}

impl Row {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            bars: Vec::new(),
            marks: Vec::new(),
            grace: None,
            label: String::new(),
            is_struck: false,
        }
    }

    /// Adds a bar, from the end of the one before it at the earliest.
    pub(super) fn bar(mut self, stage: Stage, span: Option<Span>, name: impl Into<String>) -> Self {
        let before = self.bars.last().map(|bar| bar.span.to);
        let from = |span: Span| span.from.max(before.unwrap_or_default());
        let span = span.filter(|span| from(*span) <= span.to);
        self.bars.extend(span.map(|span| Bar {
            stage,
            span: Span {
                from: from(span),
                ..span
            },
            name: name.into(),
        }));
        self
    }

    pub(super) fn mark(
        mut self,
        kind: MarkKind,
        at: Option<Duration>,
        name: impl Into<String>,
    ) -> Self {
        self.marks.extend(at.map(|at| Mark {
            kind,
            at,
            name: name.into(),
        }));
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
}

/// Puts bars into as few rows as they need to not overlap. The first row gets the name.
pub(super) fn lanes(name: &str, bars: Vec<(Bar, Option<Span>)>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (bar, grace) in bars {
        let free = rows.iter().position(|row| {
            let end = row.bars.iter().map(|bar| bar.span.to).max();
            let is_open = row.bars.iter().any(|bar| bar.span.is_open);
            !is_open && end.is_none_or(|end| end <= bar.span.from)
        });
        let at = free.unwrap_or_else(|| {
            let name = if rows.is_empty() { name } else { "" };
            rows.push(Row::new(name));
            rows.len() - 1
        });
        if let Some(row) = rows.get_mut(at) {
            row.grace = row.grace.or(grace);
            row.bars.push(bar);
        }
    }
    rows
}
