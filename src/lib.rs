#![doc = "tower-dspy"]
#[cfg(feature = "test-util")]
pub mod testing;
