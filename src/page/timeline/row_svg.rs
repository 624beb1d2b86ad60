//! A row of a timeline as SVG.

use std::time::Duration;

use maud::{Markup, html};

use super::{
    drawing::{BAR, Drawing, LEFT, ROW},
    format::{length, offset},
    label::{Label, fitted, place},
    row::{Bar, Mark, MarkKind, Row, Stage},
    scale::Scale,
    stages::Span,
};

/// The least width of a bar: a shorter one could not be seen.
const LEAST: f64 = 1.5;
/// The length of the tip of a bar that goes on.
const TIP: f64 = 7.0;
/// Half the width of a mark.
const MARK: f64 = 5.0;

/// The name, the bars and the marks of the row in place `at` of a picture.
pub(super) fn row_svg(drawing: &Drawing<'_>, at: usize, row: &Row) -> Markup {
    let middle = drawing.row(at) + ROW / 2.0;
    let scale = &drawing.scale;
    html! {
        g class=[row.is_struck.then_some("tl-struck")] {
            text class="tl-name" x="12" y=(middle + 4.0) {
                title { (row.name) }
                (fitted(&row.name, LEFT - 24.0))
            }
            @for bar in &row.bars { (bar_svg(drawing, bar, middle)) }
            @if row.is_struck { (strike(scale, row, middle)) }
            @if let Some(grace) = row.grace { (bracket(scale, grace, middle)) }
            @for mark in &row.marks { (mark_svg(scale, mark, middle)) }
        }
    }
}

/// The label of the row in place `at` of a picture.
pub(super) fn row_label_svg(drawing: &Drawing<'_>, at: usize, row: &Row) -> Markup {
    let Some(label) = row_label(&drawing.scale, row) else {
        return html! {};
    };
    let class = match label.inside {
        None => "tl-label",
        Some(Stage::FirstByte | Stage::Permit) => "tl-label tl-on-light",
        Some(Stage::Nobody) => "tl-label tl-on-strip",
        Some(_) if row.is_struck => "tl-label tl-on-struck",
        Some(_) => "tl-label tl-on-dark",
    };
    let y = drawing.row(at) + ROW / 2.0 + 4.0;
    html! { text class=(class) x=(label.x) y=(y) { (label.text) } }
}

/// The label of a row with its place; `None` if it has none, or no room for one.
pub(super) fn row_label(scale: &Scale, row: &Row) -> Option<Label> {
    if row.label.is_empty() {
        return None;
    }
    let plain = row.bars.iter().filter(|bar| is_plain(bar.stage));
    let plain = plain.map(|bar| (bar.stage, bar_places(scale, bar.span)));
    let widest = plain.max_by(|(_, a), (_, b)| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
    let is_limit = |mark: &Mark| mark.kind == MarkKind::Limit;
    let label = place(
        &row.label,
        widest,
        extent(scale, row, |mark| !is_limit(mark)),
        scale,
    )?;
    // A limit is often far from its attempt: the label stands between them, if it has room there.
    let limits = row
        .marks
        .iter()
        .filter(|mark| is_limit(mark) && scale.has(mark.at));
    let mut limits = limits.map(|mark| scale.x(mark.at));
    if limits.any(|x| (label.x - MARK..label.end() + MARK).contains(&x)) {
        let whole = extent(scale, row, |_| true);
        return place(&row.label, widest, whole, scale);
    }
    Some(label)
}

/// Whether text can be read on a bar.
const fn is_plain(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Attempt
            | Stage::Python
            | Stage::Body
            | Stage::Tool
            | Stage::FirstByte
            | Stage::Permit
            | Stage::Nobody
    )
}

/// From where to where something of a row is drawn.
fn extent(scale: &Scale, row: &Row, counts: impl Fn(&Mark) -> bool) -> (f64, f64) {
    let bars = row.bars.iter().map(|bar| bar_places(scale, bar.span));
    let marks = row
        .marks
        .iter()
        .filter(|mark| scale.has(mark.at) && counts(mark));
    let marks = marks.map(|mark| (scale.x(mark.at) - MARK, scale.x(mark.at) + MARK));
    let grace = row.grace.map(|grace| bar_places(scale, grace));
    let places = bars.chain(marks).chain(grace);
    let joined = places.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    joined.unwrap_or((scale.left, scale.left))
}

/// From where to where a span is drawn.
pub(super) fn bar_places(scale: &Scale, span: Span) -> (f64, f64) {
    let from = scale.x(span.from);
    let tip = if span.is_open { TIP } else { 0.0 };
    (from, (scale.x(span.to) + tip).max(from + LEAST))
}

fn bar_svg(drawing: &Drawing<'_>, bar: &Bar, middle: f64) -> Markup {
    let Bar { stage, span, name } = bar;
    let (from, to) = bar_places(&drawing.scale, *span);
    let wide = to - from;
    let so_far = if span.is_open { " so far" } else { "" };
    let title = tooltip(
        name,
        span.from,
        &format!("{}{so_far}", length(span.length())),
    );
    let (y, high) = match stage {
        Stage::Connect => (middle - 2.0, 4.0),
        _ => (middle - BAR / 2.0, BAR),
    };
    let pattern = pattern(*stage);
    html! {
        g class=(stage.class()) {
            title { (title) }
            @if matches!(stage, Stage::Backoff | Stage::NotShown) {
                line x1=(from) x2=(to) y1=(middle) y2=(middle) {}
            } @else if span.is_open && *stage != Stage::Nobody {
                path d={
                    "M" (from) " " (y) "H" (to - TIP.min(wide)) "L" (to) " " (middle)
                    "L" (to - TIP.min(wide)) " " (y + high) "H" (from) "z"
                } {}
            } @else {
                rect x=(from) y=(y) width=(wide) height=(high) rx="1.5" {}
            }
            @if let Some(pattern) = pattern {
                rect class="tl-pattern" x=(from) y=(y) width=(wide) height=(high)
                    fill={ "url(#" (drawing.key) "-" (pattern) ")" } {}
            }
        }
    }
}

/// The line through an attempt that came second.
fn strike(scale: &Scale, row: &Row, middle: f64) -> Markup {
    let (from, to) = extent(scale, row, |mark| mark.kind != MarkKind::Limit);
    html! { line class="tl-strike" x1=(from - 3.0) x2=(to + 3.0) y1=(middle) y2=(middle) {} }
}

/// The time for clean-up, below its bar.
fn bracket(scale: &Scale, grace: Span, middle: f64) -> Markup {
    let (from, to) = bar_places(scale, grace);
    let y = middle + BAR / 2.0 + 2.0;
    let closed = if scale.has(grace.to) { "v-3" } else { "" };
    html! {
        g class="tl-grace" {
            title { (tooltip("grace", grace.from, &length(grace.length()))) }
            path d={ "M" (from) " " (y - 3.0) "v3H" (to) (closed) } {}
        }
    }
}

fn mark_svg(scale: &Scale, mark: &Mark, middle: f64) -> Markup {
    if !scale.has(mark.at) {
        return html! {};
    }
    let d = mark_path(mark.kind, scale.x(mark.at), middle, BAR);
    html! {
        g class=(mark.kind.class()) {
            title { (mark.name) ", " (offset(mark.at)) }
            path d=(d) {}
        }
    }
}

/// The pattern of a stage's bars, where they have one.
pub(super) const fn pattern(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Queue => Some("queue"),
        Stage::CleanUp => Some("clean-up"),
        Stage::Nobody => Some("nobody"),
        _ => None,
    }
}

/// The path of a mark on a bar of this height.
pub(super) fn mark_path(kind: MarkKind, x: f64, middle: f64, high: f64) -> String {
    let top = middle - high / 2.0 - 3.0;
    match kind {
        MarkKind::Limit => format!("M{x} {top}v{}M{} {top}h8", high + 6.0, x - 4.0),
        MarkKind::Content => format!("M{} {}h9l-4.5 7z", x - 4.5, top - 1.0),
        MarkKind::Closed => format!("M{} {}l9 9m0 -9l-9 9", x - 4.5, middle - 4.5),
        MarkKind::Failed => format!("M{x} {}l6 11h-12z", middle - 6.0),
        MarkKind::Block => format!("M{x} {}l6 6l-6 6l-6 -6z", middle - 6.0),
    }
}

/// A tooltip: what it is, when it begins and how long it is.
fn tooltip(name: &str, at: Duration, length: &str) -> String {
    format!("{name}: {}, {length}", offset(at))
}
