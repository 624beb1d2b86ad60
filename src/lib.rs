#![doc = "tower-dspy"]
#[cfg(feature = "python")]
pub mod bridge;
#[cfg(feature = "test-util")]
pub mod testing;
