//! The elements of a picture, as text.

use std::fmt::Write;

/// Letters of the system that shows it.
const FONTS: &str = "-apple-system,BlinkMacSystemFont,&quot;Segoe UI&quot;,&quot;Noto Sans&quot;,Helvetica,Arial,sans-serif";

/// A picture that is being drawn.
#[derive(Debug)]
pub(crate) struct Svg {
    text: String,
}

/// Which side of a text its place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) colour: &'static str,
    pub(crate) anchor: Anchor,
    pub(crate) is_bold: bool,
}

impl Style {
    pub(crate) const fn plain(colour: &'static str) -> Self {
        Self {
            colour,
            anchor: Anchor::Start,
            is_bold: false,
        }
    }

    pub(crate) const fn bold(mut self) -> Self {
        self.is_bold = true;
        self
    }

    pub(crate) const fn at(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }
}

impl Svg {
    /// Begins a picture of this size, with its title and description for those who do not see it.
    pub(crate) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let (title, description) = (escaped(title), escaped(description));
        Self {
            text: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
                 width=\"{width}\" height=\"{height}\" role=\"img\" \
                 aria-labelledby=\"title description\" font-family=\"{FONTS}\" \
                 font-size=\"{}\">\n<title id=\"title\">{title}</title>\n\
                 <desc id=\"description\">{description}</desc>\n",
                super::label::SIZE
            ),
        }
    }

    /// A text; `y` is its base line.
    pub(crate) fn text(&mut self, x: f64, y: f64, style: Style, text: &str) {
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if style.is_bold {
            " font-weight=\"600\""
        } else {
            ""
        };
        let (colour, text) = (style.colour, escaped(text));
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\"{anchor}{weight}>{text}</text>\n"
        ));
    }

    /// A bar from `begin` to `end`, at least one pixel wide.
    pub(crate) fn bar(&mut self, begin: f64, end: f64, y: f64, height: f64, colour: &str) {
        let width = (end - begin).max(1.0);
        self.push(format_args!(
            "<rect x=\"{begin:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{colour}\"/>\n"
        ));
    }

    /// Upright lines of the same length.
    pub(crate) fn uprights(&mut self, at: &[f64], y: f64, height: f64, width: f64, colour: &str) {
        if at.is_empty() {
            return;
        }
        let mut path = String::new();
        for x in at {
            let _ = write!(path, "M{x:.1} {y:.1}v{height:.1}");
        }
        self.push(format_args!(
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n"
        ));
    }

    /// Ends the picture.
    pub(crate) fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(element);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
