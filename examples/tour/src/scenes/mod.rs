//! One file a scene, in the order of the tour.

pub(crate) mod batch;
pub(crate) mod cancel;
pub(crate) mod combined;
pub(crate) mod deadline;
pub(crate) mod fallback;
pub(crate) mod grace;
pub(crate) mod hang;
pub(crate) mod retry;
pub(crate) mod session;
pub(crate) mod stale;
pub(crate) mod stream;
pub(crate) mod timeout;
pub(crate) mod workers;
