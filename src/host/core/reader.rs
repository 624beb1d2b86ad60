//! The wait of a program for the reader of its stream: an exchange.

use serde_json::Value;
use tokio::{task::AbortHandle, time::Instant};

use super::{event::Event, exchange::NewExchange};

/// Begins an exchange whose one event comes when the reader of the call's stream has read enough;
/// `None` if the call is over.
pub(crate) fn wait(exchange: NewExchange) -> Result<Option<AbortHandle>, String> {
    let call = exchange.call.clone();
    exchange.start(|_| async move {
        if let Some(call) = call
            && let Some(stream) = &call.stream
        {
            let since = Instant::now();
            if stream.buffer.read_enough().await {
                call.count_stall(since.elapsed());
            }
        }
        Event::Value(Value::Null)
    })
}
