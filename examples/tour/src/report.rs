//! The report of the tour: the timelines of each scene's calls, as one HTML file.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tower_dspy::{
    page::{TimelineScene, timeline_html},
    timeline::CallTimeline,
};

/// How many calls of a scene are shown, of those with one label.
const MOST_OF_ONE: usize = 4;

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

    /// Writes the file, and makes its folder.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, self.html())
    }

    fn html(&self) -> String {
        let scenes = self.scenes.lock().unwrap_or_else(PoisonError::into_inner);
        let scenes: Vec<_> = scenes.iter().map(ReportedScene::shown).collect();
        timeline_html("The tour of tower-dspy", &scenes)
    }
}

impl ReportedScene {
    fn shown(&self) -> TimelineScene<'_> {
        let (mut shown, mut left_out) = (Vec::new(), 0);
        for timeline in &self.timelines {
            let alike = shown.iter().filter(|(name, _)| *name == timeline.name());
            let number = alike.count() + 1;
            if number > MOST_OF_ONE {
                left_out += 1;
            } else {
                shown.push((timeline.name(), timeline));
            }
        }
        let mut text = self.text.clone();
        if shown.is_empty() {
            text.push_str(" It has no calls in this process that could be shown.");
        }
        if left_out > 0 {
            text.push_str(&format!(" ({left_out} more calls are not shown.)"));
        }
        let scene = TimelineScene::new(&self.title).text(text);
        shown.into_iter().fold(scene, |scene, (name, timeline)| {
            let id = timeline
                .id
                .map_or_else(String::new, |id| format!(", call {id}"));
            scene.timeline(format!("{name}{id}"), timeline)
        })
    }
}
