//! Programs on other servers, as services.

#[cfg(feature = "tonic")]
pub mod tonic;
