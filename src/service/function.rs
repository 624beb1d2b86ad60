//! A plain async Python function.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use serde_json::Value;

use crate::{
    call::{CallContext, Cause},
    error::Error,
    host::{
        Host,
        core::{call_handle::CallHandle, fault::lost, registry::Registrations},
    },
    request::Route,
};

/// An `async def` function behind the same host as a program, without DSPy: from
/// [`Host::function`].
///
/// ```no_run
/// use serde_json::json;
/// use tower_dspy::Host;
///
/// # async fn example(host: Host) -> Result<(), Box<dyn std::error::Error>> {
/// let echo = host.function("echo", Some("async def echo(x): return x")).await?;
/// assert_eq!(echo.call(json!({"x": 1})).await?, json!(1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Function {
    host: Host,
    target: u64,
    registrations: Arc<Registrations>,
}

impl Function {
    pub(super) fn new(host: Host, target: u64, registrations: Arc<Registrations>) -> Self {
        Self {
            host,
            target,
            registrations,
        }
    }

    /// Calls the function with the fields of `arguments`, a JSON object, as keywords.
    ///
    /// # Errors
    /// If the function raises, returns what JSON cannot hold, or the host is gone.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call.
    pub fn call(&self, arguments: impl Into<Value>) -> FunctionFuture {
        FunctionFuture {
            call: self.host.core().submit(
                CallContext::new(),
                self.target,
                Arc::new(arguments.into()),
                Some(Box::new(self.registrations.clone())),
                None,
                Route::default(),
            ),
        }
    }
}

/// The answer to come of a [`Function`].
#[derive(Debug)]
#[must_use = "a future does nothing unless polled"]
pub struct FunctionFuture {
    call: CallHandle,
}

impl Future for FunctionFuture {
    type Output = Result<Value, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.call).poll(cx).map(|outcome| {
            let result = match outcome {
                Some(outcome) => {
                    outcome.map_err(|fault| fault.into_error("function", Cause::Caller))
                }
                None => Err(lost(self.call.lost_because())),
            };
            let spent = self.call.close(match &result {
                Ok(_) => Ok(()),
                Err(_) => Err(Cause::Caller),
            });
            result.map_err(|error| error.with_spent(spent))
        })
    }
}
