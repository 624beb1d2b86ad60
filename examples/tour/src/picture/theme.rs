//! Colours for the light and the dark pages of GitHub. The background is that of the page.

/// The colours of a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) text: &'static str,
    pub(crate) muted: &'static str,
    pub(crate) line: &'static str,
    /// Text upon a bar.
    pub(crate) on_bar: &'static str,
    /// Work that its caller waits for.
    pub(crate) wanted: &'static str,
    /// Work after the caller has given up.
    pub(crate) unwanted: &'static str,
    /// Nothing is left of it.
    pub(crate) good: &'static str,
}

impl Theme {
    pub(crate) const LIGHT: Self = Self {
        text: "#1f2328",
        muted: "#59636e",
        line: "#d1d9e0",
        on_bar: "#ffffff",
        wanted: "#0969da",
        unwanted: "#bc4c00",
        good: "#1a7f37",
    };
    pub(crate) const DARK: Self = Self {
        text: "#f0f6fc",
        muted: "#9198a1",
        line: "#3d444d",
        on_bar: "#0d1117",
        wanted: "#4493f8",
        unwanted: "#f0883e",
        good: "#3fb950",
    };
}
