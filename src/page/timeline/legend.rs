//! What the bars and marks of a timeline's picture mean.

use maud::{Markup, html};

use super::{
    drawing::{AXIS, Drawing, LEFT, RIGHT},
    label::width,
    row::{Bar, MarkKind, Row, Stage},
};

/// The height of a line of the legend.
const LINE: f64 = 20.0;
/// The width of a sample, with the gap to its text.
const SAMPLE: f64 = 28.0;

/// The legend of what is in `rows`, and its height.
pub(super) fn legend(drawing: &Drawing<'_>, rows: &[Row]) -> (f64, Markup) {
    let stages = Stage::ALL.into_iter().filter(|stage| {
        let mut bars = rows.iter().flat_map(|row| &row.bars);
        bars.any(|bar| bar.stage == *stage && is_seen(drawing, bar))
    });
    let marks = MarkKind::ALL.into_iter().filter(|kind| {
        let mut marks = rows.iter().flat_map(|row| &row.marks);
        marks.any(|mark| mark.kind == *kind && drawing.scale.has(mark.at))
    });
    let stages = stages.map(|stage| (Sample::Stage(stage), stage.name()));
    let marks = marks.map(|kind| (Sample::Mark(kind), kind.name()));
    let (mut x, mut y) = (LEFT, drawing.bottom() + AXIS + 12.0);
    let top = y;
    let mut items = Vec::new();
    for (sample, name) in stages.chain(marks) {
        let wide = SAMPLE + width(name);
        if x + wide > RIGHT && x > LEFT {
            (x, y) = (LEFT, y + LINE);
        }
        items.push((sample, name, x, y));
        x += wide + 8.0;
    }
    let markup = html! {
        g class="tl-legend" {
            @for (sample, name, x, y) in &items {
                (sample_svg(drawing, *sample, *x, *y))
                text x=(x + SAMPLE) y=(y + 4.0) { (name) }
            }
        }
    };
    (y - top + LINE + 8.0, markup)
}

/// Whether a bar is wide enough to be asked about.
fn is_seen(drawing: &Drawing<'_>, bar: &Bar) -> bool {
    let width = drawing.scale.x(bar.span.to) - drawing.scale.x(bar.span.from);
    width >= 1.0 || bar.stage == Stage::CleanUp
}

#[derive(Clone, Copy)]
enum Sample {
    Stage(Stage),
    Mark(MarkKind),
}

fn sample_svg(drawing: &Drawing<'_>, sample: Sample, x: f64, y: f64) -> Markup {
    use super::row_svg::{mark_path, pattern};

    match sample {
        Sample::Stage(stage @ (Stage::Backoff | Stage::NotShown)) => html! {
            g class=(stage.class()) { line x1=(x) x2=(x + 20.0) y1=(y) y2=(y) {} }
        },
        Sample::Stage(stage) => {
            let high = if stage == Stage::Connect { 4.0 } else { 10.0 };
            html! {
                g class=(stage.class()) {
                    rect x=(x) y=(y - high / 2.0) width="20" height=(high) rx="1.5" {}
                    @if let Some(pattern) = pattern(stage) {
                        rect class="tl-pattern" x=(x) y=(y - high / 2.0) width="20" height=(high)
                            fill={ "url(#" (drawing.key) "-" (pattern) ")" } {}
                    }
                }
            }
        }
        Sample::Mark(kind) => {
            // That of the first content stands above its bar.
            let middle = if kind == MarkKind::Content {
                y + 5.0
            } else {
                y
            };
            let d = mark_path(kind, x + 10.0, middle, 10.0);
            html! { g class=(kind.class()) { path d=(d) {} } }
        }
    }
}
