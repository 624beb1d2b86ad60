//! Readings of calls for people: timelines as pictures, text and files.

mod timeline;

pub use self::timeline::{
    html::{TimelineScene, timeline_html},
    perfetto::timeline_perfetto,
    story::{TimelineStory, timeline_story},
    story_line::StoryLine,
    style::TIMELINE_STYLE,
    svg::timeline_svg,
    text::timeline_text,
};
