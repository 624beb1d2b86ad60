//! The picture of one call that is given up, the usual way and ours: what goes on when its caller has
//! left, and who pays for it. All times in it are measured.

mod draw;
mod label;
mod measure;
mod svg;
#[cfg(test)]
mod tests;
mod theme;

use std::{fs, path::Path};

pub(crate) use self::measure::{GivenUp, Span};
use self::{draw::draw, theme::Theme};
use crate::stage::{Stage, Trouble, count, time};

/// Plays the call both ways and writes the picture for light and for dark pages.
pub(crate) async fn make(stage: &Stage, folder: &Path) -> Result<(), Trouble> {
    let unwritable = |error| format!("{} cannot be written to: {error}", folder.display());
    fs::create_dir_all(folder).map_err(unwritable)?;
    let naive = measure::naive(stage).await?;
    let ours = measure::ours(stage).await?;
    for (name, call) in [("tokio::time::timeout", &naive), ("tower-dspy", &ours)] {
        println!(
            "{name}: given up after {}; Python's work ended {} later, the LM's {} later, with {} \
             for nobody",
            time(call.gave_up),
            time(call.python.after(call.gave_up)),
            time(call.lm.after(call.gave_up)),
            count(call.for_nobody(), "token"),
        );
    }
    for (name, theme) in [("light", Theme::LIGHT), ("dark", Theme::DARK)] {
        let path = folder.join(format!("timeline-{name}.svg"));
        fs::write(&path, draw(&naive, &ours, &theme)).map_err(unwritable)?;
        println!("{}", path.display());
    }
    Ok(())
}
