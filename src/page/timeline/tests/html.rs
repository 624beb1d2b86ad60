//! The document of timelines.

use super::samples::{deadline_passed, hostile, not_stopped};
use crate::page::{TimelineScene, timeline_html};

/// Where the deadline is drawn in each picture.
fn deadlines(html: &str) -> Vec<&str> {
    let lines = html.split(r#"<g class="tl-deadline">"#).skip(1);
    let places = lines.filter_map(|line| line.split(r#"<line x1=""#).nth(1)?.split('"').next());
    places.collect()
}

#[test]
fn the_timelines_of_a_scene_have_one_scale() {
    let (plain, ours) = (not_stopped(), deadline_passed());
    let scene = TimelineScene::new("A deadline")
        .timeline("plain", &plain)
        .timeline("ours", &ours);
    let alone = TimelineScene::new("Alone").timeline("ours", &ours);
    let html = timeline_html("Report", &[scene, alone]);
    let places = deadlines(&html);
    assert_eq!(places.len(), 3);
    assert_eq!(places[0], places[1]);
    assert_ne!(places[0], places[2]);
}

#[test]
fn ids_are_unique_in_a_document() {
    let call = not_stopped();
    let scene = || {
        TimelineScene::new("One")
            .timeline("a", &call)
            .timeline("b", &call)
    };
    let html = timeline_html("Report", &[scene(), scene()]);
    let ids = html.split(r#" id=""#).skip(1);
    let mut ids: Vec<_> = ids.filter_map(|part| part.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn all_texts_are_escaped_and_nothing_is_loaded() {
    let call = hostile();
    let name = "</style><script>alert(1)</script>";
    let scene = TimelineScene::new(name).text(name).timeline(name, &call);
    let html = timeline_html(name, &[scene]);
    assert!(!html.contains("<script"));
    assert_eq!(html.matches("</style>").count(), 1);
    for loads in [" src=", "url(http", "@import", "<link"] {
        assert!(!html.contains(loads), "{loads}");
    }
}
