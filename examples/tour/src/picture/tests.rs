use std::time::Duration;

use roxmltree::{Document, Node};

use super::{GivenUp, Span, draw::draw, label, theme::Theme};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A call whose work ends after `lasts`, with a token each 40 ms.
fn call(gave_up: Duration, lasts: Duration, is_closed: bool) -> GivenUp {
    let span = |begin| Span { begin, end: lasts };
    let mut tokens = vec![];
    while (tokens.len() + 1) as u32 * ms(40) < lasts {
        tokens.push((tokens.len() + 1) as u32 * ms(40));
    }
    GivenUp {
        gave_up,
        python: span(gave_up / 200),
        lm: span(gave_up / 60),
        is_closed,
        tokens,
    }
}

fn usual() -> (GivenUp, GivenUp) {
    let ours = GivenUp {
        tokens: (1..10).map(|n| n * ms(40)).collect(),
        ..call(ms(401), Duration::from_micros(401_700), true)
    };
    (call(ms(400), ms(1650), false), ours)
}

/// Calls of other lengths: naive work that goes on for a moment or for a minute, long clean-up, limits of a
/// few milliseconds and of seconds.
fn others() -> Vec<(GivenUp, GivenUp)> {
    let pair = |limit, naive, ours| (call(limit, naive, false), call(limit, ours, true));
    vec![
        usual(),
        pair(ms(400), ms(430), ms(401)),
        pair(ms(400), ms(60_000), ms(401)),
        pair(ms(400), ms(1650), ms(1500)),
        pair(ms(4), ms(16), ms(4)),
        pair(ms(5000), ms(5001), ms(5001)),
        pair(ms(3000), ms(11_000), ms(3100)),
        pair(ms(400), ms(400), ms(400)),
    ]
}

fn texts<'a>(document: &'a Document<'_>) -> Vec<Node<'a, 'a>> {
    document
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .collect()
}

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    let value = node.attribute(name).unwrap_or_else(|| panic!("no {name}"));
    value
        .parse()
        .unwrap_or_else(|_| panic!("{name}=\"{value}\""))
}

/// What a text covers: left, right, top, bottom.
fn place(text: Node<'_, '_>) -> [f64; 4] {
    let (x, y) = (number(text, "x"), number(text, "y"));
    let is_bold = text.attribute("font-weight").is_some();
    let width = label::width(text.text().unwrap_or_default(), is_bold);
    let left = match text.attribute("text-anchor") {
        None => x,
        Some("middle") => x - width / 2.0,
        Some(_) => x - width,
    };
    [
        left,
        left + width,
        y - 0.75 * label::SIZE,
        y + 0.2 * label::SIZE,
    ]
}

#[test]
fn the_picture_is_xml_with_a_title_a_description_and_nothing_from_elsewhere() {
    for (naive, ours) in others() {
        for theme in [Theme::LIGHT, Theme::DARK] {
            let svg = draw(&naive, &ours, &theme);
            let document = Document::parse(&svg).expect("well-formed XML");
            let root = document.root_element();
            assert!(root.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
            assert_eq!(root.attribute("role"), Some("img"));
            for name in ["title", "desc"] {
                let node = root.children().find(|node| node.has_tag_name(name));
                let node = node.unwrap_or_else(|| panic!("no {name}"));
                assert!(!node.text().unwrap_or_default().is_empty(), "{name}");
                let labels = root.attribute("aria-labelledby").unwrap_or_default();
                let id = node.attribute("id").expect("an id");
                assert!(labels.split(' ').any(|label| label == id), "{labels}");
            }
            for outside in ["<script", "href", "@import", "url(", "<image", "<style"] {
                assert!(!svg.contains(outside), "{outside}");
            }
        }
    }
}

#[test]
fn the_picture_of_the_usual_times_is_small() {
    let (naive, ours) = usual();
    let svg = draw(&naive, &ours, &Theme::LIGHT);
    assert!(svg.len() < 12 * 1024, "{} bytes", svg.len());
}

#[test]
fn each_lane_and_each_time_is_labelled() {
    let (naive, ours) = usual();
    let svg = draw(&naive, &ours, &Theme::DARK);
    let document = Document::parse(&svg).expect("well-formed XML");
    let texts: Vec<_> = texts(&document).iter().filter_map(Node::text).collect();
    for (label, times) in [
        ("caller", 2),
        ("Python", 2),
        ("LM request", 2),
        ("LM tokens", 2),
        ("gives up after 400 ms", 1),
        ("gives up after 401 ms", 1),
        ("answers nobody 1.2 s later", 1),
        ("connection closed within 1 ms", 1),
        ("31 tokens paid for nobody", 1),
        ("0 tokens paid for nobody", 1),
        ("goes on for 1.2 s", 1),
        ("ends within 1 ms", 1),
        ("work for nobody", 1),
        ("1 s", 1),
    ] {
        let found = texts.iter().filter(|text| **text == label).count();
        assert_eq!(found, times, "{label}: {texts:?}");
    }
}

#[test]
fn no_text_covers_another_or_leaves_the_picture() {
    for (naive, ours) in others() {
        let svg = draw(&naive, &ours, &Theme::LIGHT);
        let document = Document::parse(&svg).expect("well-formed XML");
        let root = document.root_element();
        let (width, height) = (number(root, "width"), number(root, "height"));
        let texts = texts(&document);
        for (n, text) in texts.iter().enumerate() {
            let [left, right, top, bottom] = place(*text);
            let is_inside = left >= 0.0 && right <= width && top >= 0.0 && bottom <= height;
            assert!(is_inside, "{:?} in {svg}", text.text());
            for other in &texts[..n] {
                let [other_left, other_right, other_top, other_bottom] = place(*other);
                let is_apart = right <= other_left
                    || other_right <= left
                    || bottom <= other_top
                    || other_bottom <= top;
                assert!(
                    is_apart,
                    "{:?} and {:?} in {svg}",
                    text.text(),
                    other.text()
                );
            }
        }
    }
}

#[test]
fn a_text_covers_a_bar_only_in_the_colour_for_that() {
    for (naive, ours) in others() {
        let svg = draw(&naive, &ours, &Theme::LIGHT);
        let document = Document::parse(&svg).expect("well-formed XML");
        let bars = document
            .descendants()
            .filter(|node| node.has_tag_name("rect"));
        let bars: Vec<_> = bars
            .map(|bar| {
                let (x, y) = (number(bar, "x"), number(bar, "y"));
                [x, x + number(bar, "width"), y, y + number(bar, "height")]
            })
            .collect();
        for text in texts(&document) {
            let [left, right, top, bottom] = place(text);
            let covers = bars
                .iter()
                .any(|[bar_left, bar_right, bar_top, bar_bottom]| {
                    left < *bar_right && *bar_left < right && top < *bar_bottom && *bar_top < bottom
                });
            let is_for_bars = text.attribute("fill") == Some(Theme::LIGHT.on_bar);
            assert_eq!(covers, is_for_bars, "{:?} in {svg}", text.text());
        }
    }
}

#[test]
fn work_for_nobody_has_its_colour_from_the_moment_that_the_caller_gives_up() {
    let (naive, ours) = usual();
    let svg = draw(&naive, &ours, &Theme::LIGHT);
    let document = Document::parse(&svg).expect("well-formed XML");
    let bars = document
        .descendants()
        .filter(|node| node.has_tag_name("rect"));
    let bars: Vec<_> = bars.collect();
    let of = |colour| {
        bars.iter()
            .filter(move |bar| bar.attribute("fill") == Some(colour))
    };
    let caller = bars[0];
    let gave_up = number(caller, "x") + number(caller, "width");
    // The naive way's Python and LM, a hair of ours, and the legend.
    assert_eq!(of(Theme::LIGHT.unwanted).count(), 5, "{svg}");
    let long = of(Theme::LIGHT.unwanted).filter(|bar| number(**bar, "width") > 100.0);
    let long: Vec<_> = long.copied().collect();
    assert_eq!(long.len(), 2, "{svg}");
    for bar in &long {
        assert!((number(*bar, "x") - gave_up).abs() < 0.2, "{svg}");
    }
}
