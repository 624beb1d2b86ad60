//! What goes wrong, when it is asked to.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tower_dspy::testing::scripted_lm::{Reply, Script, ScriptedLm};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing; the LM is slow now and then, as LMs are.
    None,
    /// The LM takes most of the deadline.
    Slow,
    /// The LM never answers.
    Hang,
    /// The LM answers 503.
    Unavailable,
    /// The LM answers what no program can parse, for its tokens.
    Garbage,
    /// There are more calls than the program takes.
    Overload,
    /// The program ignores the signal to stop.
    IgnoreCancel,
    /// The program blocks its loop.
    Blocked,
}

impl Fault {
    const ALL: [(&str, Self); 8] = [
        ("none", Self::None),
        ("slow", Self::Slow),
        ("hang", Self::Hang),
        ("unavailable", Self::Unavailable),
        ("garbage", Self::Garbage),
        ("overload", Self::Overload),
        ("ignore-cancel", Self::IgnoreCancel),
        ("blocked", Self::Blocked),
    ];

    /// What the program is asked.
    pub(crate) const fn question(self) -> &'static str {
        match self {
            Self::IgnoreCancel => "ignore-cancel",
            Self::Blocked => "blocked",
            _ => "Why is the sky blue?",
        }
    }

    /// How the LM answers.
    fn script(self) -> Script {
        let answer = || Reply::answer("Rayleigh scattering").delay(Duration::from_millis(20));
        let slow = |millis| answer().delay(Duration::from_millis(millis));
        match self {
            // Of a streamed answer each part takes its time.
            Self::None | Self::IgnoreCancel | Self::Blocked => {
                let reply = |n| match n % 13 {
                    0 => slow(1200),
                    _ => answer().drip(Duration::from_millis(2)),
                };
                (0..10_000).map(reply).collect::<Vec<_>>().into()
            }
            Self::Slow => slow(1700).into(),
            Self::Hang => Reply::hang().into(),
            Self::Unavailable => Reply::status(503).into(),
            Self::Garbage => Reply::content("The sky is blue.").into(),
            Self::Overload => slow(800).into(),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(known, _)| *known == name);
        found.map(|(_, fault)| *fault).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name);
            format!("a fault is one of {}", names.join(", "))
        })
    }
}

/// The fault of the moment.
#[derive(Clone)]
pub(crate) struct Faults {
    lm: Arc<ScriptedLm>,
    now: Arc<Mutex<Fault>>,
}

impl Faults {
    pub(crate) fn new(lm: Arc<ScriptedLm>, fault: Fault) -> Self {
        let now = Arc::new(Mutex::new(fault));
        let faults = Self { lm, now };
        faults.set(fault);
        faults
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.lm.script("small", fault.script());
    }

    pub(crate) fn now(&self) -> Fault {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the requests that the LM has had, which would fill the memory.
    pub(crate) fn forget_requests(&self) {
        self.lm.forget("small");
    }
}
