//! The limit in force, and which of the layers within each other ends a call.
//!
//! The limit travels inward in the context, and the grace of a cancellation in its node. Of layers
//! that would end a call at one instant the outermost does, with its own grace; those inside it read
//! here that they leave the end to it, and until when.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::{Cancel, Cause, Deadline};

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// The limit of one attempt.
    Attempt,
    /// The deadline of the whole call.
    Deadline,
    /// What a layer left of the deadline to the work inside it, having kept a reserve for itself.
    Reserve,
    /// The share of the time left that one step of a call was given.
    Share,
    /// The time until the first event of a streamed answer.
    FirstContent,
    /// The time between two events of a streamed answer.
    Idle,
    /// The time of a streamed answer, from the call to its end.
    Total,
}

/// A limit that a layer enforces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// When it passes.
    pub(crate) at: Deadline,
    /// The name that its error gives it.
    pub(crate) scope: Scope,
    /// When the layer that enforces it got the call.
    pub(crate) since: Instant,
    /// How long the layer waits for the work then.
    pub(crate) grace: Duration,
}

impl Limit {
    /// Whether it had passed when the layer got the call.
    #[inline]
    pub(crate) fn was_past(&self) -> bool {
        self.at.instant() <= self.since
    }

    pub(crate) const fn cause(&self) -> Cause {
        match self.scope {
            Scope::Deadline => Cause::Deadline,
            Scope::Attempt
            | Scope::Reserve
            | Scope::Share
            | Scope::FirstContent
            | Scope::Idle
            | Scope::Total => Cause::Elapsed,
        }
    }

    /// When the layer that enforces it drops the work at the latest.
    pub(crate) fn drops_at(&self) -> Deadline {
        self.at.later_by(self.grace)
    }
}

/// The limits and graces that the layers around one place in a stack enforce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enclosing {
    limit: Option<Limit>,
    cancel: Cancel,
}

impl Enclosing {
    /// The limit that a layer `enforced`, if the context's `deadline` is that limit, and the graces of
    /// the node. No layer enforces any other deadline, such as one from the wire or from a
    /// foreign layer.
    #[inline]
    pub(super) fn new(
        enforced: Option<Limit>,
        deadline: Option<Deadline>,
        cancel: &Cancel,
    ) -> Self {
        let in_force = |limit: &Limit| deadline.is_some_and(|deadline| deadline <= limit.at);
        Self {
            limit: enforced.filter(in_force),
            cancel: cancel.clone(),
        }
    }

    /// What those around a node enforce.
    pub(crate) fn of_node(node: &Cancel) -> Self {
        Self {
            limit: None,
            cancel: node.clone(),
        }
    }

    /// When an enclosing layer drops the work at the latest; `None` as long as none is to.
    pub(crate) fn drops_at(&self, now: Instant) -> Option<Instant> {
        let passed = self.limit.filter(|limit| limit.at.instant() <= now);
        let limit = passed.map(|limit| limit.drops_at().instant());
        let grace = self.cancel.grace_ends_at(now);
        limit.into_iter().chain(grace).min()
    }

    /// The limit of an enclosing layer to which one at `inner` is left: it is no later.
    #[inline]
    pub(crate) fn limit_over(&self, inner: Deadline) -> Option<Limit> {
        self.limit.filter(|outer| outer.at <= inner)
    }

    /// As [`limit_over`](Self::limit_over), for a deadline of a layer's own: it is named in place of
    /// the limit of an attempt at the same instant, unless it would cut the grace of that.
    #[inline]
    pub(crate) fn limit_over_deadline(&self, inner: Deadline) -> Option<Limit> {
        self.limit_over(inner).filter(|outer| {
            outer.at < inner || outer.scope == Scope::Deadline || !outer.grace.is_zero()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CancelGrace;

    fn limit(scope: Scope, at: u64, grace: u64, since: Instant) -> Limit {
        Limit {
            at: Deadline::at(since).later_by(Duration::from_secs(at)),
            scope,
            since,
            grace: Duration::from_secs(grace),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_left_to_an_outer_one_that_is_no_later() {
        use Scope::{Attempt, Deadline};
        let since = Instant::now();
        for (outer, inner, left, left_deadline) in [
            ((Deadline, 3, 0), 9, true, true),
            ((Deadline, 3, 0), 3, true, true),
            ((Deadline, 3, 9), 2, false, false),
            ((Attempt, 3, 0), 9, true, true),
            // The deadline is named, but cuts no grace.
            ((Attempt, 3, 0), 3, true, false),
            ((Attempt, 3, 1), 3, true, true),
        ] {
            let (scope, at, grace) = outer;
            let enclosing = Enclosing {
                limit: Some(limit(scope, at, grace, since)),
                cancel: Cancel::none(),
            };
            let inner = limit(Attempt, inner, 0, since).at;
            let seen = [
                enclosing.limit_over(inner).is_some(),
                enclosing.limit_over_deadline(inner).is_some(),
            ];
            assert_eq!(seen, [left, left_deadline], "{outer:?} {inner:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_work_is_dropped_at_the_earlier_end_of_what_has_begun() {
        let since = Instant::now();
        let at = |n| since + Duration::from_secs(n);
        let node = Cancel::new();
        let grace = CancelGrace::on_cancel(Duration::from_secs(4), None);
        let enclosing = Enclosing {
            limit: Some(limit(Scope::Deadline, 3, 5, since)),
            cancel: node.child_with_grace(grace.clone()).child(),
        };
        assert_eq!(enclosing.drops_at(at(2)), None);
        assert_eq!(enclosing.drops_at(at(3)), Some(at(8)));
        node.cancel(Cause::Caller);
        // Not seen by its layer yet.
        assert_eq!(enclosing.drops_at(at(2)), Some(at(6)));
        grace.begin(at(5));
        grace.begin(at(6));
        assert_eq!(enclosing.drops_at(at(9)), Some(at(5)));
    }
}
