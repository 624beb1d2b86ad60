//! The style sheet of timelines.

/// The style sheet of the pictures of [`timeline_svg`](crate::page::timeline_svg): for light and for dark
/// screens, by `prefers-color-scheme`. All its classes begin with `tl`, its variables with `--tl`.
pub const TIMELINE_STYLE: &str = include_str!("style.css");
