#![doc = include_str!("events.md")]

mod accept;
mod chat;
mod chat_completions;
mod event_stream;
mod failure;
mod options;
mod predict_stream;
mod sse_queue;
mod ui_messages;

pub use self::{
    chat::ChatFields,
    chat_completions::{ChatPrograms, chat_completions},
    options::StreamOptions,
    predict_stream::predict_stream,
    ui_messages::ui_messages,
};
