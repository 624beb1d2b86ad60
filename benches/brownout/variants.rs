//! The variants: what each hop has around its calls.

use crate::hops::{Controls, Hop, Retries, Wire};

pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) client: Hop,
    pub(crate) front: Hop,
    pub(crate) back: Hop,
    pub(crate) wire: Wire,
}

/// The variants of the figures, with the ends of their names. The first two retry in the hop that
/// calls the LM alone, the others in each hop.
pub(crate) const FIGURES: [(&str, &str); 4] = [
    ("standard", ""),
    ("naive_last_hop", "_naive_last_hop"),
    ("standard_each_hop", "_each_hop"),
    ("naive", "_naive"),
];

/// A standard stack without retries.
const PLAIN: Controls = Controls {
    retries: Retries::None,
    hedges: false,
    rejects_infeasible: false,
    max_in_flight: None,
    sheds: false,
};

const RETRIES: Controls = Controls {
    retries: Retries::WithBudget,
    ..PLAIN
};

/// The stack of the node that calls the LM: a program has 64 calls at once by default.
const BACK: Controls = Controls {
    max_in_flight: Some(64),
    ..RETRIES
};

const fn naive(name: &'static str, what: &'static str, wire: Wire) -> Variant {
    Variant {
        name,
        what,
        client: Hop::Naive,
        front: Hop::Naive,
        back: Hop::Naive,
        wire,
    }
}

/// One with retries in the node that calls the LM alone.
const fn standard(name: &'static str, what: &'static str, back: Controls) -> Variant {
    Variant {
        name,
        what,
        client: Hop::Standard(PLAIN),
        front: Hop::Standard(PLAIN),
        back: Hop::Standard(back),
        wire: Wire::WithDeadlines,
    }
}

pub(crate) const VARIANTS: &[Variant] = &[
    naive(
        "naive",
        "tower's retry of 3 attempts around its timeout of 10 s, in each hop; work that is dropped ends",
        Wire::Plain,
    ),
    naive(
        "naive_goes_on",
        "the same; work that is dropped goes on, as Python's does behind a timeout",
        Wire::Detached,
    ),
    Variant {
        name: "naive_last_hop",
        what: "the same in the hop that calls the LM, and tower's timeout of 30 s alone in the others",
        client: Hop::Timeout,
        front: Hop::Timeout,
        back: Hop::Naive,
        wire: Wire::Plain,
    },
    Variant {
        name: "standard_each_hop",
        what: "the standard stack with its defaults in each hop",
        client: Hop::Standard(RETRIES),
        front: Hop::Standard(RETRIES),
        back: Hop::Standard(BACK),
        wire: Wire::WithDeadlines,
    },
    standard(
        "standard",
        "the standard stack in each hop, retries in the one that calls the LM alone",
        BACK,
    ),
    standard(
        "no_retries",
        "the same without retries",
        Controls {
            retries: Retries::None,
            ..BACK
        },
    ),
    standard(
        "no_retry_budget",
        "the same with retries that have no budget",
        Controls {
            retries: Retries::WithoutBudget,
            ..BACK
        },
    ),
    standard(
        "hedges",
        "with hedges at the 95th percentile",
        Controls {
            hedges: true,
            ..BACK
        },
    ),
    standard(
        "rejects_infeasible",
        "with calls refused that have less time left than the median of the last 10 s",
        Controls {
            rejects_infeasible: true,
            ..BACK
        },
    ),
    standard(
        "sheds",
        "with calls refused beyond 24 at once for each node that calls the LM",
        Controls {
            max_in_flight: Some(24),
            sheds: true,
            ..BACK
        },
    ),
    standard(
        "all",
        "with hedges, shedding, and calls refused that have too little time",
        Controls {
            hedges: true,
            rejects_infeasible: true,
            max_in_flight: Some(24),
            sheds: true,
            ..BACK
        },
    ),
];
