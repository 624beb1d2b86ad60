//! The answer of a program as it is written: the events, and the stream of them.

pub(crate) mod event;
#[cfg(feature = "_host")]
pub(crate) mod fields;
pub(crate) mod prediction_stream;

pub use event::StreamEvent;
pub use prediction_stream::PredictionStream;
