//! The report of the tour: the timelines of each scene's calls, as one HTML file.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tower_dspy::{
    page::{TimelineScene, timeline_html},
    timeline::CallTimeline,
};

use crate::stage::Trouble;

/// How many calls of a scene are shown, of those that look the same.
const MOST_ALIKE: usize = 2;

/// Where the report goes if nobody says: `target/tour/report.html` of the workspace, or a folder of
/// the system's for temporary files where there is no `target`.
pub(crate) fn default_path() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = here.ancestors().nth(2).map(|root| root.join("target"));
    let folder = target.filter(|target| target.is_dir());
    folder
        .unwrap_or_else(env::temp_dir)
        .join("tour")
        .join("report.html")
}

/// Makes the folder of a report, and looks whether the file can be written: the tour takes a while.
pub(crate) fn prepare(path: &Path) -> Result<(), Trouble> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    let opened = made.and_then(|()| File::options().append(true).create(true).open(path));
    opened.map(drop).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Trouble {
    format!(
        "the report cannot be written to {}: {error}",
        path.display()
    )
    .into()
}

/// The scenes that were played.
#[derive(Debug, Default)]
pub(crate) struct Report {
    scenes: Mutex<Vec<ReportedScene>>,
}

#[derive(Debug)]
struct ReportedScene {
    title: String,
    text: String,
    timelines: Vec<CallTimeline>,
}

impl Report {
    /// Adds a scene, with what it told.
    pub(crate) fn add(&self, title: String, text: String, timelines: Vec<CallTimeline>) {
        let mut scenes = self.scenes.lock().unwrap_or_else(PoisonError::into_inner);
        scenes.push(ReportedScene {
            title,
            text,
            timelines,
        });
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Trouble> {
        fs::write(path, self.html()).map_err(|error| unwritable(path, &error))
    }

    fn html(&self) -> String {
        let scenes = self.scenes.lock().unwrap_or_else(PoisonError::into_inner);
        let scenes: Vec<_> = scenes.iter().map(ReportedScene::shown).collect();
        timeline_html("The tour of tower-dspy", &scenes)
    }
}

impl ReportedScene {
    fn shown(&self) -> TimelineScene<'_> {
        let mut shown = Vec::<&CallTimeline>::new();
        for timeline in &self.timelines {
            let alike = shown.iter().filter(|other| are_alike(other, timeline));
            if alike.count() < MOST_ALIKE {
                shown.push(timeline);
            }
        }
        let left_out = self.timelines.len() - shown.len();
        let mut text = self.text.clone();
        if shown.is_empty() {
            text.push_str(" It has no calls in this process that could be shown.");
        }
        if left_out > 0 {
            text.push_str(&format!(" (Not shown: {left_out} more like these.)"));
        }
        let scene = TimelineScene::new(&self.title).text(text);
        shown.into_iter().fold(scene, |scene, timeline| {
            let id = timeline.id.map(|id| format!(", call {id}"));
            let id = id.unwrap_or_default();
            scene.timeline(format!("{}{id}", timeline.name()), timeline)
        })
    }
}

/// Whether two calls of a scene look the same: their label, how they ended, and after how many
/// attempts.
fn are_alike(one: &CallTimeline, other: &CallTimeline) -> bool {
    let looks = |timeline: &CallTimeline| {
        let answer = timeline
            .answered
            .map(|answer| (answer.status, answer.source));
        (timeline.label.clone(), answer, timeline.attempts.len())
    };
    looks(one) == looks(other)
}
