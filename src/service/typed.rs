//! Inputs and outputs as structs.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};
use tower::Service;

use crate::{
    call::{Spent, WithContext},
    error::{Error, InvalidInput, ProgramError},
    layers::inner_service_accessors,
    request::{PredictRequest, Prediction},
};

/// A service of structs around one of [`PredictRequest`]; `DspyService::typed` makes that of a program.
///
/// It takes a [`WithContext<In>`], so that layers work around it as well as inside it. Its future is
/// boxed: the inner service's has to be `Send + 'static`.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use tower::{Service, ServiceExt};
/// use tower_dspy::{Error, PredictRequest, Prediction, WithContext, service::Typed};
///
/// #[derive(Serialize)]
/// struct Question { question: String }
/// #[derive(Deserialize)]
/// struct Answer { answer: String }
///
/// # async fn example<S>(qa: S) -> Result<(), Error>
/// # where
/// #     S: Service<PredictRequest, Response = Prediction, Error = Error>,
/// #     S::Future: Send + 'static,
/// # {
/// let qa = Typed::<_, Question, Answer>::new(qa);
/// let question = Question { question: "Why?".into() };
/// let Answer { answer } = qa.oneshot(WithContext::new(question)).await?;
/// # Ok(())
/// # }
/// ```
pub struct Typed<S, In, Out> {
    inner: S,
    types: PhantomData<fn(In) -> Out>,
}

impl<S, In, Out> Typed<S, In, Out> {
    /// Structs around `inner`.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            types: PhantomData,
        }
    }

    inner_service_accessors!();
}

impl<S: Clone, In, Out> Clone for Typed<S, In, Out> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<S: fmt::Debug, In, Out> fmt::Debug for Typed<S, In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.inner).finish()
    }
}

impl<S, In, Out> Service<WithContext<In>> for Typed<S, In, Out>
where
    S: Service<PredictRequest, Response = Prediction>,
    S::Error: From<Error>,
    S::Future: Send + 'static,
    In: Serialize,
    Out: DeserializeOwned,
{
    type Response = Out;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Out, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: WithContext<In>) -> Self::Future {
        let WithContext {
            request,
            mut context,
        } = request;
        let id = context.id();
        let inputs = match PredictRequest::from_fields(&request) {
            Ok(inputs) => inputs,
            Err(error) => {
                let problem = format!("the inputs cannot be written as JSON: {error}");
                let expected = "a struct with its input fields";
                let error = InvalidInput::new("the program", None, problem, expected);
                let error = Error::from(error.with_call_id(id));
                return async { Err(error.into()) }.fuse().boxed();
            }
        };
        // That of the call, if it is open already, and how many attempts services have written into it.
        let record = context.record.clone();
        let written = record.as_ref().map(|record| record.written());
        let prediction = self.inner.call(inputs.with_context(context));
        let answer = async move {
            let prediction = prediction.await?;
            prediction.parse().map_err(|error| {
                let message = format!("the answer does not fit its struct: {error}");
                let error = ProgramError::new("answer", message, "");
                let mut spent = cost_of(prediction);
                if let Some(record) = record {
                    // Of a service that writes into no record, as a client of a remote one.
                    if Some(record.written()) == written
                        && let Some(spent) = &spent
                    {
                        record.add(spent);
                    }
                    spent = record.spent();
                }
                Error::from(error.with_spent(spent).with_call_id(id)).into()
            })
        };
        answer.fuse().boxed()
    }
}

/// What an answer that cannot be used has cost.
fn cost_of(prediction: Prediction) -> Option<Arc<Spent>> {
    let spent = Spent {
        usage: prediction.usage,
        cost: prediction.cost,
        lm_calls: prediction.lm_calls,
        lm_calls_not_kept: prediction.lm_calls_not_kept.into(),
        lm_calls_bypassed: prediction.lm_calls_bypassed.into(),
        ..Spent::default()
    };
    (!spent.is_nothing()).then(|| Arc::new(spent))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, future::ready, time::Duration};

    use serde_json::{Map, Value};
    use tokio_test::{assert_pending, assert_ready, task};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::{
        call::{Carrier, Usage, record::AttemptRecord},
        error::ErrorKind,
        layers::{Backoff, RetryLayer},
    };

    #[tokio::test(start_paused = true)]
    async fn retried_answers_that_do_not_fit_are_counted_once() {
        // An answer has the costs of the call so far.
        let writes = |mut request: PredictRequest| {
            let record = request.context_mut().open_record().clone();
            let attempt = request.context_mut().attempt;
            let _attempt = AttemptRecord::new(record.clone(), attempt, None);
            let mut spent = Spent::default();
            spent.usage.total_tokens = 5;
            record.add(&spent);
            record.read(|spent| spent.usage)
        };
        assert_eq!(tokens_of_three_attempts(writes).await, Some(3 * 5));
        // It has its own costs alone.
        let writes_nothing = |_: PredictRequest| Usage {
            total_tokens: 5,
            ..Usage::default()
        };
        assert_eq!(tokens_of_three_attempts(writes_nothing).await, Some(3 * 5));
    }

    async fn tokens_of_three_attempts(
        usage: impl Fn(PredictRequest) -> Usage + Clone + Send + 'static,
    ) -> Option<u64> {
        let program = service_fn(move |request: PredictRequest| {
            let mut prediction = Prediction::new(Map::new());
            prediction.usage = usage(request);
            ready(Ok::<_, Error>(prediction))
        });
        let typed = Typed::<_, Map<String, Value>, Vec<u32>>::new(program);
        let retried = RetryLayer::new(2)
            .on_kinds([ErrorKind::Program])
            .with_backoff(Backoff::fixed(Duration::ZERO))
            .layer(typed);
        let error = retried.oneshot(WithContext::new(Map::new())).await;
        let error = error.expect_err("an object is no list");
        error.spent().map(|spent| spent.usage.total_tokens)
    }

    #[tokio::test]
    async fn a_call_that_has_ended_may_be_polled_again() {
        let program =
            service_fn(|_: PredictRequest| ready(Ok::<_, Error>(Prediction::new(Map::new()))));
        let mut typed = Typed::<_, BTreeMap<[u8; 1], u8>, Map<String, Value>>::new(program);
        for (inputs, fits) in [(BTreeMap::from([([1], 1)]), false), (BTreeMap::new(), true)] {
            let mut call = task::spawn(typed.call(WithContext::new(inputs)));
            assert_eq!(assert_ready!(call.poll()).is_ok(), fits);
            assert_pending!(call.poll());
        }
    }
}
