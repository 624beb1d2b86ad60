//! The blocks of the loop in the record of the call whose code blocked it.

use std::time::Duration;

use tokio::time::Instant;

use super::seconds::seconds;

#[cfg(any(feature = "_host", test))]
use super::tools::first_chars;

/// How many blocks a record keeps: the first ones.
#[cfg(any(feature = "_host", test))]
const MOST: usize = 8;

/// A time in which sync code of a call blocked the loop that it shares with other calls.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct BlockTimeline {
    /// When the loop ran for the last time before that, counted from the arrival of the call; zero if
    /// it was before.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// The innermost frame, as `file:line function`: at most [`FRAME`](Self::FRAME) characters.
    pub frame: String,
}

impl BlockTimeline {
    /// How many characters of a frame are kept.
    pub const FRAME: usize = 200;
}

/// A block, at its instant.
pub(super) struct BlockRecord {
    at: Instant,
    frame: String,
}

impl BlockRecord {
    /// The block, counted from `origin`.
    pub(super) fn timeline(&self, origin: Instant) -> BlockTimeline {
        BlockTimeline {
            at: self.at.saturating_duration_since(origin),
            frame: self.frame.clone(),
        }
    }
}

/// Adds a block that has lasted for `late` now, if there is room.
#[cfg(any(feature = "_host", test))]
pub(super) fn add(blocks: &mut Vec<BlockRecord>, late: Duration, frame: &str) {
    if blocks.len() < MOST {
        let now = Instant::now();
        blocks.push(BlockRecord {
            at: now.checked_sub(late).unwrap_or(now),
            frame: first_chars(frame, BlockTimeline::FRAME).into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn blocks_have_their_beginning_and_are_bounded() {
        let (mut blocks, origin) = (Vec::new(), Instant::now());
        advance(Duration::from_secs(3)).await;
        add(&mut blocks, Duration::from_secs(1), "slow.py:1 f");
        add(&mut blocks, Duration::from_secs(9), &"ä".repeat(1000));
        for _ in 0..MOST {
            add(&mut blocks, Duration::ZERO, "slow.py:1 f");
        }
        assert_eq!(blocks.len(), MOST);
        let first = blocks[0].timeline(origin);
        assert_eq!(
            (first.at, &*first.frame),
            (Duration::from_secs(2), "slow.py:1 f")
        );
        let second = blocks[1].timeline(origin);
        assert_eq!(second.at, Duration::ZERO);
        assert_eq!(second.frame.chars().count(), BlockTimeline::FRAME);
    }
}
