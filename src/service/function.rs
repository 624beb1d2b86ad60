//! A plain async Python function.

use std::{future::Future, sync::Arc};

use serde_json::{Value, json};

use crate::{
    error::Error,
    host::{
        Host,
        core::{host_core::NewCall, registry::Registrations},
    },
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
    pub(super) host: Host,
    pub(super) target: u64,
    pub(super) registrations: Arc<Registrations>,
}

impl Function {
    /// Calls the function with the fields of `arguments`, a JSON object, as keywords; null stands for
    /// none.
    ///
    /// # Errors
    /// If the function raises, returns what JSON cannot hold, or the host is gone.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call.
    pub fn call<A>(&self, arguments: A) -> impl Future<Output = Result<Value, Error>> + use<A>
    where
        A: Into<Value>,
    {
        let arguments = match arguments.into() {
            Value::Null => json!({}),
            arguments => arguments,
        };
        let mut call = self.host.core().submit(NewCall {
            target: self.target,
            inputs: Arc::new(arguments),
            permit: Some(Box::new(self.registrations.clone())),
            ..NewCall::default()
        });
        let host = self.host.clone();
        async move {
            let result = match (&mut call).await {
                Some(outcome) => {
                    outcome.map_err(|fault| call.failed(fault, "function", host.cancel_cause()))
                }
                None => Err(call.lost()),
            };
            let spent = call.close(result.as_ref().map(|_| ()));
            result.map_err(|error| error.with_spent(spent))
        }
    }
}
