//! The answer of a program as it is written: the events, and the stream of them.

pub(crate) mod event;
#[cfg(feature = "_host")]
pub(crate) mod fields;
#[cfg(any(feature = "test-util", feature = "tonic"))]
mod open_events;
pub(crate) mod prediction_stream;

pub use event::StreamEvent;
#[cfg(any(feature = "test-util", feature = "tonic"))]
pub(crate) use open_events::open_events;
pub use prediction_stream::PredictionStream;
