//! Timelines of calls as a document of its own.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    drawing::{LEFT, RIGHT},
    scale::{Scale, shown_until},
    story::{gist, timeline_story},
    style::TIMELINE_STYLE,
    svg::picture,
};
use crate::call::record::timeline::CallTimeline;

/// Timelines that are shown together, on one scale: such as those of one request to two services.
#[derive(Clone, Debug)]
pub struct TimelineScene<'a> {
    title: String,
    text: String,
    timelines: Vec<(String, &'a CallTimeline)>,
}

impl<'a> TimelineScene<'a> {
    /// A scene without timelines.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            text: String::new(),
            timelines: Vec::new(),
        }
    }

    /// What is to know about the scene, as plain text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// One more timeline, below those that the scene has, with its caption.
    #[must_use]
    pub fn timeline(mut self, caption: impl Into<String>, call: &'a CallTimeline) -> Self {
        self.timelines.push((caption.into(), call));
        self
    }
}

/// Scenes as an HTML document that needs nothing else: no network, no script. It has a style of its
/// own, for light and for dark screens. Timelines of a scene have one scale, so that their lengths can
/// be compared. All texts are escaped.
///
/// ```
/// use tower_dspy::{
///     page::{TimelineScene, timeline_html},
///     timeline::CallTimeline,
/// };
///
/// fn report(plain: &CallTimeline, stopped: &CallTimeline) -> std::io::Result<()> {
///     let scene = TimelineScene::new("The client goes away")
///         .text("Who still works after that?")
///         .timeline("without the layers", plain)
///         .timeline("with them", stopped);
///     std::fs::write("report.html", timeline_html("A report", &[scene]))
/// }
/// ```
#[must_use]
pub fn timeline_html(title: &str, scenes: &[TimelineScene<'_>]) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(TIMELINE_STYLE)) (PreEscaped(DOCUMENT_STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    @if scenes.len() > 2 { (contents(scenes)) }
                    @for (at, scene) in scenes.iter().enumerate() { (scene_html(at, scene)) }
                }
            }
        }
    };
    markup.into_string()
}

/// The style of the document around the pictures.
const DOCUMENT_STYLE: &str = include_str!("document.css");

fn contents(scenes: &[TimelineScene<'_>]) -> Markup {
    html! {
        nav aria-label="Scenes" {
            ul {
                @for (at, scene) in scenes.iter().enumerate() {
                    li { a href={ "#scene-" (at + 1) } { (scene.title) } }
                }
            }
        }
    }
}

fn scene_html(at: usize, scene: &TimelineScene<'_>) -> Markup {
    let ends = scene.timelines.iter().map(|(_, call)| shown_until(call));
    let scale = Scale::new(ends.max().unwrap_or_default(), LEFT, RIGHT);
    html! {
        section id={ "scene-" (at + 1) } {
            h2 { (scene.title) }
            @if !scene.text.is_empty() { p class="text" { (scene.text) } }
            @for (number, (caption, call)) in scene.timelines.iter().enumerate() {
                (timeline(caption, call, scale, &format!("tl-{}-{}", at + 1, number + 1)))
            }
        }
    }
}

fn timeline(caption: &str, call: &CallTimeline, scale: Scale, key: &str) -> Markup {
    let story = timeline_story(call);
    html! {
        figure {
            figcaption {
                h3 { (caption) }
                p class="gist" { (gist(call)) }
            }
            div class="picture" tabindex="0" role="region" aria-label={ "Timeline: " (caption) } {
                (picture(call, scale, key))
            }
            details {
                summary { "What happened" }
                table class="story" {
                    @for line in &story.lines {
                        tr { th scope="row" { (line.offset()) } td { (line.text) } }
                    }
                }
                @if !story.costs.is_empty() {
                    ul { @for cost in &story.costs { li { (cost) } } }
                }
            }
        }
    }
}
