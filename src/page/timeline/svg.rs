//! The timeline of a call as SVG.

use maud::{Markup, html};

use super::{
    drawing::{AXIS, Drawing, LEFT, RIGHT, WIDTH},
    format::bounded_name,
    legend::legend,
    row_svg::{row_label_svg, row_svg},
    rows::rows,
    scale::{Scale, shown_until},
    selection::MostRows,
    story::gist,
    verticals::{Vertical, VerticalKind, verticals},
};
use crate::call::record::timeline::CallTimeline;

/// The timeline of `call` as an SVG element: its waits, attempts, LM calls and clean-up from the arrival
/// to the settlement, or until now; the deadline, the answer and the settlement as vertical lines; and
/// the time between the last two hatched.
///
/// The element has classes alone, neither styles nor scripts, so that it fits into a document with a
/// strict Content-Security-Policy. Its colours are in
/// [`TIMELINE_STYLE`](crate::page::TIMELINE_STYLE). It is bounded: of more than 24 LM calls, 12 attempts
/// or 12 calls of tools it shows the first and the last, and the number of the others. Names are
/// escaped.
///
/// ```
/// use tower_dspy::{page::timeline_svg, timeline::CallTimeline};
///
/// fn picture(call: &CallTimeline) -> String {
///     format!("<figure>{}</figure>", timeline_svg(call))
/// }
/// ```
#[must_use]
pub fn timeline_svg(call: &CallTimeline) -> String {
    let scale = Scale::new(shown_until(call), LEFT, RIGHT);
    let key = call.id.map_or(0, |id| id.get());
    picture(call, scale, &format!("tl-{key}")).into_string()
}

/// The picture of a call on a scale. `key` begins the ids in it; two in one document need two of them.
pub(super) fn picture(call: &CallTimeline, scale: Scale, key: &str) -> Markup {
    let rows = rows(call, MostRows::PICTURE);
    let lines = verticals(call);
    let drawing = Drawing::new(scale, lines.len(), rows.len(), key);
    let (legend_height, legend) = legend(&drawing, &rows);
    let height = drawing.bottom() + AXIS + legend_height;
    let title = format!("Timeline of {}", bounded_name(call.name()));
    html! {
        svg class="tl" xmlns="http://www.w3.org/2000/svg" role="img"
            viewBox={ "0 0 " (WIDTH) " " (height) }
            width=(WIDTH) height=(height)
            aria-labelledby={ (key) "-title " (key) "-desc" }
        {
            title id={ (key) "-title" } { (title) }
            desc id={ (key) "-desc" } { (gist(call)) }
            (patterns(key))
            (nobody(&drawing, call))
            (axis(&drawing))
            @for (at, row) in rows.iter().enumerate() {
                (row_svg(&drawing, at, row))
            }
            (vertical_lines(&drawing, &lines))
            @for (at, row) in rows.iter().enumerate() {
                (row_label_svg(&drawing, at, row))
            }
            (legend)
        }
    }
}

/// The patterns that tell stages apart without colours.
fn patterns(key: &str) -> Markup {
    html! {
        defs {
            pattern id={ (key) "-nobody" } width="8" height="8" patternUnits="userSpaceOnUse"
                patternTransform="rotate(45)" { rect class="tl-hatch" width="2.5" height="8" {} }
            pattern id={ (key) "-queue" } width="4" height="4" patternUnits="userSpaceOnUse"
                { circle class="tl-dot" cx="2" cy="2" r="0.9" {} }
            pattern id={ (key) "-clean-up" } width="6" height="6" patternUnits="userSpaceOnUse"
                patternTransform="rotate(-45)" { rect class="tl-stripe" width="1.5" height="6" {} }
        }
    }
}

/// The strip between the answer and the settlement.
fn nobody(drawing: &Drawing<'_>, call: &CallTimeline) -> Markup {
    let Some(answer) = call.answered else {
        return html! {};
    };
    let from = drawing.scale.x(answer.at);
    let to = drawing.scale.x(call.settled.unwrap_or(call.read));
    html! {
        g {
            title { "work for nobody" }
            rect class="tl-strip" x=(from) y=(drawing.top()) width=(to - from)
                height=(drawing.bottom() - drawing.top()) {}
            rect fill={ "url(#" (drawing.key) "-nobody)" } x=(from) y=(drawing.top())
                width=(to - from) height=(drawing.bottom() - drawing.top()) {}
        }
    }
}

fn axis(drawing: &Drawing<'_>) -> Markup {
    let bottom = drawing.bottom();
    html! {
        g class="tl-axis" {
            @for tick in drawing.scale.ticks(8) {
                line class="tl-grid" x1=(tick.x) x2=(tick.x) y1=(drawing.top()) y2=(bottom + 4.0) {}
                text x=(tick.x) y=(bottom + 16.0) text-anchor="middle" { (tick.label) }
            }
            line class="tl-base" x1=(LEFT) x2=(RIGHT) y1=(bottom) y2=(bottom) {}
        }
    }
}

/// The lines with their labels, each label at a height of its own: the rightmost at the top, so that
/// no line crosses the label of another. Of lines at one place the settlement is the widest and the
/// answer the narrowest, so that all are seen.
fn vertical_lines(drawing: &Drawing<'_>, lines: &[Vertical]) -> Markup {
    let mut lines: Vec<_> = lines.iter().zip(drawing.flags(lines)).collect();
    lines.sort_by_key(|(line, _)| std::cmp::Reverse(line.kind.width()));
    html! {
        @for (line, place) in &lines {
            g class=(line.kind.class()) {
                title { (line.label) }
                @if drawing.scale.has(line.at) {
                    line x1=(place.x) x2=(place.x) y1=(place.y - 9.0) y2=(drawing.bottom())
                        stroke-width=(line.kind.width()) {}
                    @if line.kind == VerticalKind::Deadline {
                        path d={ "M" (place.x - 4.5) " " (place.y - 10.0) "h9l-4.5 7z" } {}
                    }
                }
            }
        }
        @for (line, place) in &lines {
            text class=(line.kind.class()) x=(place.text_x) y=(place.y) text-anchor="end" {
                (line.label) @if !drawing.scale.has(line.at) { " →" }
            }
        }
    }
}
