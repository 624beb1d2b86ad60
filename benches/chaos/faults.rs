//! The seeded schedule of the LM's replies.

use std::time::Duration;

use tower_dspy::testing::scripted_lm::Reply;

/// Replies of one stretch of time.
pub(crate) const REPLIES: usize = 1024;

/// The replies of one second: how many of them are good depends on the weather of that second.
pub(crate) struct Weather {
    /// The chance of a fault.
    faults: f64,
    /// Faults of one kind only, as of a provider that is down or refuses.
    only: Option<Fault>,
}

/// A kind of reply that is not simply the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Hangs,
    Resets,
    Drips,
    Trickles,
    Garbage,
    Unparsable,
    Refuses429,
    Fails503,
    StallsInMid,
    ErrorInMid,
}

pub(crate) const FAULTS: [Fault; 10] = [
    Fault::Hangs,
    Fault::Resets,
    Fault::Drips,
    Fault::Trickles,
    Fault::Garbage,
    Fault::Unparsable,
    Fault::Refuses429,
    Fault::Fails503,
    Fault::StallsInMid,
    Fault::ErrorInMid,
];

impl Weather {
    pub(crate) const CALM: Self = Self {
        faults: 0.0,
        only: None,
    };

    pub(crate) fn random(random: &mut fastrand::Rng) -> Self {
        let (faults, only) = match random.u8(0..20) {
            0..12 => (0.2, None),
            12..18 => (0.6, None),
            18 => (0.9, Some(Fault::Refuses429)),
            _ => (0.9, Some(Fault::Hangs)),
        };
        Self { faults, only }
    }

    /// A reply to a request of an agent or another program, and its fault.
    pub(crate) fn reply(&self, random: &mut fastrand::Rng, agent: bool) -> (Reply, Option<Fault>) {
        let good = || if agent { agents_step() } else { Reply::echo() };
        if random.f64() >= self.faults {
            let delay = Duration::from_millis(random.u64(0..60));
            return (good().delay(delay), None);
        }
        let fault = self.only.unwrap_or(FAULTS[random.usize(..FAULTS.len())]);
        let reply = match fault {
            Fault::Hangs => Reply::hang(),
            Fault::Resets => good().cut_after(random.usize(0..60)),
            Fault::Drips => good().drip(Duration::from_millis(random.u64(1..80))),
            Fault::Trickles => good().trickle(Duration::from_micros(random.u64(100..5000))),
            Fault::Garbage => Reply::garbage(),
            Fault::Unparsable => Reply::content("I would rather not say."),
            Fault::Refuses429 => Reply::status(429).retry_after(random.u64(0..3)),
            Fault::Fails503 => Reply::status(503),
            Fault::StallsInMid => good().stall_after(random.usize(0..8)),
            Fault::ErrorInMid => good().error_after(random.usize(0..8), 529),
        };
        (reply, Some(fault))
    }
}

/// Fits each LM call of an agent, which takes the fields that it asks for.
fn agents_step() -> Reply {
    Reply::fields([
        ("next_thought", "I look it up."),
        ("next_tool_name", "search"),
        ("next_tool_args", r#"{"query": "sky"}"#),
        ("reasoning", "It was found."),
        ("answer", "blue"),
    ])
}
