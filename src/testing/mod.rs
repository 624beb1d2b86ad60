//! What a test needs: a scripted LM.

pub mod scripted_lm;

pub use scripted_lm::ScriptedLm;
