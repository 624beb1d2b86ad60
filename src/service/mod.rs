//! A program as a tower service.

mod dspy;
mod function;
mod future;
mod load;
mod load_error;
mod program;
#[cfg(feature = "workers")]
mod replace;
mod schema;
mod tool;
mod typed;

pub use dspy::DspyService;
pub use function::Function;
pub use future::PredictFuture;
pub use load::Load;
pub use load_error::LoadError;
#[cfg(feature = "openapi")]
pub(crate) use schema::JsonType;
pub use schema::{InputField, Schema};
pub use tool::{Tool, ToolCall};
pub use typed::Typed;
