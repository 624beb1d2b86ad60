//! The measures of a timeline's picture.

use super::{label::width, scale::Scale, verticals::Vertical};

/// The width of the picture, in its own units.
pub(super) const WIDTH: f64 = 1120.0;
/// Where the arrival is; on its left are the names of rows.
pub(super) const LEFT: f64 = 186.0;
/// Where the last instant is.
pub(super) const RIGHT: f64 = 1096.0;
/// The height of a row.
pub(super) const ROW: f64 = 24.0;
/// The height of a bar in it.
pub(super) const BAR: f64 = 16.0;
/// The height of the axis below the rows.
pub(super) const AXIS: f64 = 24.0;
/// The height of a line of labels at the top.
const FLAG: f64 = 17.0;
/// The distance between a line and its label.
const GAP: f64 = 6.0;

/// A picture of some lines and rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawing<'a> {
    pub(super) scale: Scale,
    lines: usize,
    rows: usize,
    /// What ids begin with.
    pub(super) key: &'a str,
}

/// The place of a vertical line and of its label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Where the label ends.
    pub(super) text_x: f64,
}

impl<'a> Drawing<'a> {
    pub(super) const fn new(scale: Scale, lines: usize, rows: usize, key: &'a str) -> Self {
        Self {
            scale,
            lines,
            rows,
            key,
        }
    }

    /// Where the first row begins.
    pub(super) fn top(&self) -> f64 {
        self.lines as f64 * FLAG + 8.0
    }

    /// Where the last row ends.
    pub(super) fn bottom(&self) -> f64 {
        self.row(self.rows) + 4.0
    }

    /// Where a row begins.
    pub(super) fn row(&self, at: usize) -> f64 {
        self.top() + 4.0 + at as f64 * ROW
    }

    /// The places of lines that are sorted from left to right.
    pub(super) fn flags(&self, lines: &[Vertical]) -> impl Iterator<Item = Flag> {
        let count = lines.len();
        let flag = move |(at, line): (usize, &Vertical)| {
            let x = self.scale.x(line.at);
            Flag {
                x,
                y: (count - at) as f64 * FLAG - 3.0,
                text_x: (x - GAP).max(width(&line.label) + GAP),
            }
        };
        lines.iter().enumerate().map(flag)
    }
}
