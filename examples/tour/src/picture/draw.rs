//! The drawing: two panels above each other on one axis of time, each with a lane for the caller, for
//! Python's work, for the LM's request and for its tokens.

use std::time::Duration;

use super::{
    GivenUp, Span,
    label::width,
    svg::{Anchor, Style, Svg},
    theme::Theme,
};
use crate::stage::{count, time};

const WIDTH: f64 = 830.0;
const MARGIN: f64 = 12.0;
/// Where the axis of time begins and ends.
const LEFT: f64 = 122.0;
const RIGHT: f64 = WIDTH - MARGIN;
/// A row of text, or a lane.
const ROW: f64 = 28.0;
const BAR: f64 = 20.0;
/// From a row's top to the base line of its text.
const BASE: f64 = 19.0;
/// Between a bar and the text beside it.
const GAP: f64 = 8.0;
const LANES: f64 = 4.0;
/// Between the two panels.
const BETWEEN: f64 = 20.0;
const PANEL: f64 = (1.0 + LANES) * ROW;
const HEIGHT: f64 = 2.0 * PANEL + BETWEEN + 2.0 * ROW;

/// Shorter times are written as "within 1 ms".
const AT_ONCE: Duration = Duration::from_millis(1);

/// The distances of the axis' marks, in milliseconds.
const STEPS: [u64; 12] = [
    10, 20, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000, 20_000,
];
/// At most so many marks.
const MARKS: u64 = 6;

/// The picture of a call, the naive way above ours.
pub(crate) fn draw(naive: &GivenUp, ours: &GivenUp, theme: &Theme) -> String {
    let all = naive.end().max(ours.end()).max(Duration::from_millis(1));
    let scale = Scale { all };
    let mut svg = Svg::new(
        WIDTH,
        HEIGHT,
        "One call, given up",
        &description(naive, ours),
    );
    let marks = scale.marks();
    let second = PANEL + BETWEEN;
    let mut panel = |top, title, call| {
        Panel {
            scale,
            theme,
            top,
            call,
        }
        .draw(&mut svg, title)
    };
    panel(0.0, "tokio::time::timeout: the work goes on", naive);
    panel(second, "tower-dspy: the work stops", ours);

    let axis = second + PANEL + BASE + 2.0;
    let lines: Vec<_> = marks.iter().map(|mark| scale.x(*mark)).collect();
    svg.uprights(&lines, second + PANEL, 5.0, 1.0, theme.muted);
    svg.bar(LEFT, RIGHT, second + PANEL, 1.0, theme.line);
    svg.text(MARGIN, axis, Style::plain(theme.muted), "time");
    for mark in marks {
        let anchor = if mark.is_zero() {
            Anchor::Start
        } else {
            Anchor::Middle
        };
        let style = Style::plain(theme.muted).at(anchor);
        svg.text(scale.x(mark), axis, style, &mark_text(mark));
    }
    legend(&mut svg, second + PANEL + ROW, theme);
    svg.end()
}

/// What the colours mean.
fn legend(svg: &mut Svg, top: f64, theme: &Theme) {
    let mut x = LEFT;
    let meanings = [
        (theme.wanted, "work that the caller waits for"),
        (theme.unwanted, "work for nobody"),
    ];
    for (colour, meaning) in meanings {
        svg.bar(x, x + 12.0, top + 8.0, 12.0, colour);
        svg.text(
            x + 12.0 + GAP,
            top + BASE,
            Style::plain(theme.muted),
            meaning,
        );
        x += 12.0 + GAP + width(meaning, false) + 3.0 * GAP;
    }
}

/// The axis of time.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// How long it is.
    all: Duration,
}

impl Scale {
    fn x(self, at: Duration) -> f64 {
        LEFT + (RIGHT - LEFT) * (at.as_secs_f64() / self.all.as_secs_f64()).min(1.0)
    }

    /// The moments with a mark, whose texts do not reach over the right margin.
    fn marks(self) -> Vec<Duration> {
        let all = u64::try_from(self.all.as_millis()).unwrap_or(u64::MAX);
        let fits = |step: &&u64| all / **step < MARKS;
        let step = STEPS.iter().find(fits).copied().unwrap_or(all.max(1));
        let marks = (0..=all / step).map(|n| Duration::from_millis(n * step));
        let fits = |mark: &Duration| self.x(*mark) + width(&mark_text(*mark), false) / 2.0 <= WIDTH;
        marks.filter(fits).collect()
    }
}

/// One way: its title and its lanes.
struct Panel<'a> {
    scale: Scale,
    theme: &'a Theme,
    top: f64,
    call: &'a GivenUp,
}

impl Panel<'_> {
    fn draw(&self, svg: &mut Svg, title: &str) {
        let (call, theme) = (self.call, self.theme);
        svg.text(
            MARGIN,
            self.top + BASE,
            Style::plain(theme.text).bold(),
            title,
        );
        let for_nobody = call.for_nobody();
        let colour = if for_nobody == 0 {
            theme.good
        } else {
            theme.unwanted
        };
        let style = Style::plain(colour).bold().at(Anchor::End);
        let paid = format!("{} paid for nobody", count(for_nobody, "token"));
        svg.text(RIGHT, self.top + BASE, style, &paid);

        let waits = Span {
            begin: Duration::ZERO,
            end: call.gave_up,
        };
        self.lane(
            svg,
            0,
            "caller",
            waits,
            &format!("gives up after {}", time(call.gave_up)),
        );
        self.lane(svg, 1, "Python", call.python, &python_ends(call));
        self.lane(svg, 2, "LM request", call.lm, &lm_ends(call));
        self.tokens(svg, 3);
        let left = self.scale.x(call.gave_up);
        svg.uprights(&[left], self.row(0), LANES * ROW, 1.5, theme.text);
    }

    fn row(&self, lane: u8) -> f64 {
        self.top + ROW * f64::from(1 + lane)
    }

    fn name(&self, svg: &mut Svg, lane: u8, name: &str) {
        let y = self.row(lane) + BASE;
        svg.text(MARGIN, y, Style::plain(self.theme.text), name);
    }

    /// A bar, in two colours if it goes on when the caller has left, and what is to be said of its end.
    fn lane(&self, svg: &mut Svg, lane: u8, name: &str, span: Span, says: &str) {
        self.name(svg, lane, name);
        let (scale, theme) = (self.scale, self.theme);
        let left = self.call.gave_up.clamp(span.begin, span.end);
        let (begin, middle, end) = (scale.x(span.begin), scale.x(left), scale.x(span.end));
        let y = self.row(lane);
        if left > span.begin {
            svg.bar(begin, middle, y + 4.0, BAR, theme.wanted);
        }
        if span.end > left {
            svg.bar(middle, end, y + 4.0, BAR, theme.unwanted);
        }
        // Beside the bar if there is room, else upon the longer part of it.
        let long = width(says, false);
        let beside = end.max(middle + 1.0) + GAP;
        if beside + long <= RIGHT {
            svg.text(beside, y + BASE, Style::plain(theme.text), says);
            return;
        }
        let on_end = end - middle >= middle - begin;
        let (from, to) = if on_end {
            (middle, end)
        } else {
            (begin, middle)
        };
        if to - from >= long + 2.0 * GAP {
            let style = Style::plain(theme.on_bar).at(Anchor::End);
            svg.text(to - GAP, y + BASE, style, says);
        }
    }

    /// A line for each token.
    fn tokens(&self, svg: &mut Svg, lane: u8) {
        self.name(svg, lane, "LM tokens");
        let (y, height) = (self.row(lane) + 6.0, BAR - 4.0);
        let all = self.call.tokens.iter();
        let (late, early): (Vec<Duration>, _) = all.partition(|at| **at > self.call.gave_up);
        for (tokens, colour) in [(early, self.theme.wanted), (late, self.theme.unwanted)] {
            let at: Vec<_> = tokens.into_iter().map(|at| self.scale.x(at)).collect();
            svg.uprights(&at, y, height, 3.0, colour);
        }
    }
}

/// What becomes of Python's work when the caller has left.
fn python_ends(call: &GivenUp) -> String {
    let after = call.python.after(call.gave_up);
    match after < AT_ONCE {
        true => "ends within 1 ms".into(),
        false => format!("goes on for {}", time(after)),
    }
}

/// What becomes of the LM's request when the caller has left.
fn lm_ends(call: &GivenUp) -> String {
    let after = call.lm.after(call.gave_up);
    match (call.is_closed, after < AT_ONCE) {
        (true, true) => "connection closed within 1 ms".into(),
        (true, false) => format!("connection closed {} later", time(after)),
        (false, _) => format!("answers nobody {} later", time(after)),
    }
}

/// `0`, `400 ms` or `1.5 s`.
fn mark_text(at: Duration) -> String {
    if at.is_zero() { "0".into() } else { time(at) }
}

fn description(naive: &GivenUp, ours: &GivenUp) -> String {
    let one = |call: &GivenUp| {
        format!(
            "its caller gives up after {}, the Python work ends {} later, the LM request {} later, \
             and the LM writes {} for nobody",
            time(call.gave_up),
            time(call.python.after(call.gave_up)),
            time(call.lm.after(call.gave_up)),
            count(call.for_nobody(), "token"),
        )
    };
    format!(
        "Measured timelines of the same call. With tokio::time::timeout {}. With tower-dspy {}.",
        one(naive),
        one(ours)
    )
}
