//! The answer of a program as it is written: the events, and the stream of them.

pub(crate) mod event;
pub(crate) mod prediction_stream;

pub use event::StreamEvent;
pub use prediction_stream::PredictionStream;
