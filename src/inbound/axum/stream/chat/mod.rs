//! A chat as the inputs of a program.

mod fields;
mod message;

pub use self::fields::ChatFields;
pub(super) use self::message::{ChatMessage, ChatRole, output_text, value_text};
