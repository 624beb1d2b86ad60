//! [`Stale`]: the last good answer.

use std::{fmt, future::ready, hash::Hash, sync::Arc, time::Duration};

use moka::sync::Cache;
use serde_json::Value;
use tokio::time::Instant;

use super::FallbackStrategy;
use crate::{
    call::record::timeline::AnswerSource,
    request::{PredictRequest, Prediction, Tenant},
};

/// The default capacity: for how many questions an answer is kept.
const CAPACITY: u64 = 1_000;

/// How much longer than the age limit the cache keeps an answer: the cache reads the clock of the
/// machine, the age is read from tokio's, which a test may pause.
const SLACK: Duration = Duration::from_secs(60);

/// The longest time to live of an entry; moka refuses one of a thousand years.
const LONGEST: Duration = Duration::from_secs(86_400 * 365 * 100);

/// Answers a call that failed with the last good answer to the same question, if that is not too
/// old, and says how old it is.
///
/// Each answer of the service inside is kept. Answers of a fallback and stale answers are not, so an
/// age is always that of the answer itself. Without a kept answer, or if it is too old, the call
/// keeps its error, which goes to the next fallback of a [chain](super::FallbackLayer::or) or to the
/// caller.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use tower_dspy::{Error, ErrorKind, FallbackLayer, LmError, PredictRequest, Prediction};
/// use tower_dspy::layers::Stale;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// // Answers once, then its LM is down.
/// let mut calls = 0;
/// let program = service_fn(move |_: PredictRequest| {
///     calls += 1;
///     std::future::ready(match calls {
///         1 => Ok(Prediction::new([("answer".into(), json!("Paris"))].into_iter().collect())),
///         _ => Err(Error::from(LmError::new("LMServerError", "down", Some(503), None))),
///     })
/// });
/// let stale = Stale::predictions(Duration::from_secs(600)).with_capacity(10_000);
/// let mut program = ServiceBuilder::new()
///     .layer(FallbackLayer::new(stale).on_kinds([ErrorKind::LmUnavailable]))
///     .service(program);
///
/// let request = PredictRequest::new(json!({"question": "What is the capital of France?"}));
/// let fresh = program.ready().await?.call(request.clone()).await?;
/// assert_eq!(fresh.stale_age, None);
///
/// tokio::time::sleep(Duration::from_secs(90)).await;
/// let stale = program.ready().await?.call(request).await?;
/// assert_eq!(stale.get("answer"), Some(&json!("Paris")));
/// assert_eq!(stale.stale_age, Some(Duration::from_secs(90)));
///
/// // Another question has no answer yet.
/// let other = PredictRequest::new(json!({"question": "And of Spain?"}));
/// assert!(program.ready().await?.call(other).await.is_err());
/// # Ok(())
/// # }
/// ```
///
/// # Which questions are the same
/// For [`predictions`](Stale::predictions), those with equal inputs of one [`Tenant`]; whole, not
/// by a digest. An answer that depends on something else, as on the time of day, needs a key that
/// has it: [`Stale::by`]. Have one `Stale` for each program. Clones share their answers.
///
/// # Where it belongs
/// Where other fallbacks belong, outside of a layer that records latencies: an earlier answer takes
/// no time. A typed service returns only the outputs of a prediction: a fallback around it returns
/// the age if the answers are put into [`StaleValue`]; the age of a fallback inside it is lost.
///
/// # What it costs
/// A clone of each answer, and the memory of as many keys and answers as its
/// [capacity](Stale::with_capacity) allows, 1000 by default: those asked for often stay longest
/// (moka's TinyLFU). An answer is dropped at the latest a minute after it became too old. Neither
/// keys nor answers are shown by `Debug`.
pub struct Stale<F, K, T> {
    key: Arc<F>,
    answers: Cache<K, (T, Instant)>,
    max_age: Duration,
}

/// The last good answers of a program, by its inputs and the tenant.
pub type StalePrediction = Stale<fn(&PredictRequest) -> Question, Question, Prediction>;

/// The inputs of a request, and its tenant.
type Question = (Arc<Value>, Option<Tenant>);

impl StalePrediction {
    /// Keeps predictions by the inputs and the tenant of their requests, each for `max_age`.
    #[must_use]
    pub fn predictions(max_age: Duration) -> Self {
        Self::by::<PredictRequest>(max_age, PredictRequest::question)
    }
}

impl<F, K, T> Stale<F, K, T>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Keeps each answer for `max_age`, under the key that `key` makes of its request.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::{FallbackLayer, WithContext};
    /// use tower_dspy::layers::{Stale, StaleValue};
    ///
    /// struct Ask { tenant: u32, question: String }
    ///
    /// // Any answer, put into `StaleValue` by the service: `.map_response(StaleValue::fresh)`.
    /// let stale = Stale::<_, _, StaleValue<String>>::by(
    ///     Duration::from_secs(600),
    ///     |ask: &WithContext<Ask>| (ask.request.tenant, ask.request.question.clone()),
    /// );
    /// let layer = FallbackLayer::new(stale);
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn by<R>(max_age: Duration, key: F) -> Self
    where
        F: Fn(&R) -> K,
    {
        Self {
            key: Arc::new(key),
            answers: cache(max_age, CAPACITY),
            max_age,
        }
    }

    /// An empty `Stale` that keeps answers to at most this many questions.
    #[must_use]
    pub fn with_capacity(self, answers: u64) -> Self {
        Self {
            answers: cache(self.max_age, answers),
            ..self
        }
    }

    /// Forgets all answers, as after the program was changed.
    pub fn clear(&self) {
        self.answers.invalidate_all();
    }
}

fn cache<K, T>(max_age: Duration, capacity: u64) -> Cache<K, (T, Instant)>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(capacity)
        .time_to_live(max_age.saturating_add(SLACK).min(LONGEST))
        .build()
}

impl<R, T, E, K, F> FallbackStrategy<R, T, E> for Stale<F, K, T>
where
    F: Fn(&R) -> K,
    K: Hash + Eq + Send + Sync + 'static,
    T: Staleness + Clone + Send + Sync + 'static,
    E: Send + 'static,
{
    type Kept = K;

    fn keep(&self, request: &R) -> K {
        (self.key)(request)
    }

    fn record(&self, key: K, answer: &T) {
        if answer.stale_age().is_none() {
            self.answers.insert(key, (answer.clone(), Instant::now()));
        }
    }

    fn source(&self) -> AnswerSource {
        AnswerSource::Stale
    }

    fn answer(self, error: E, key: K) -> impl Future<Output = Result<T, E>> + Send + 'static {
        let answer = self.answers.get(&key);
        let aged = answer.map(|(answer, since)| (answer, since.elapsed()));
        ready(match aged {
            Some((answer, age)) if age <= self.max_age => Ok(answer.into_stale(age)),
            _ => Err(error),
        })
    }
}

impl<F, K, T> Clone for Stale<F, K, T> {
    fn clone(&self) -> Self {
        Self {
            key: Arc::clone(&self.key),
            answers: self.answers.clone(),
            max_age: self.max_age,
        }
    }
}

/// A key repeats a prompt, and an answer may, so neither is shown.
impl<F, K, T> fmt::Debug for Stale<F, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stale")
            .field("max_age", &self.max_age)
            .field("capacity", &self.answers.policy().max_capacity())
            .finish_non_exhaustive()
    }
}

/// An answer with an age: a [`Prediction`], or any other in [`StaleValue`].
pub trait Staleness {
    /// The age of an answer that was given earlier; `None` if the answer is fresh.
    fn stale_age(&self) -> Option<Duration>;

    /// The same answer, marked as given `age` ago.
    #[must_use]
    fn into_stale(self, age: Duration) -> Self;
}

/// A stale prediction keeps the outputs, but no usage: its costs were counted when it was fresh.
impl Staleness for Prediction {
    fn stale_age(&self) -> Option<Duration> {
        self.stale_age
    }

    fn into_stale(self, age: Duration) -> Self {
        let mut stale = Self::new(self.outputs);
        stale.stale_age = Some(age);
        stale
    }
}

/// Any answer, and how old it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StaleValue<T> {
    /// The answer itself.
    pub answer: T,
    /// Its age if it was given earlier; `None` if it is fresh.
    pub stale_age: Option<Duration>,
}

impl<T> StaleValue<T> {
    /// An answer that has just been given.
    pub const fn fresh(answer: T) -> Self {
        Self {
            answer,
            stale_age: None,
        }
    }
}

impl<T> Staleness for StaleValue<T> {
    fn stale_age(&self) -> Option<Duration> {
        self.stale_age
    }

    fn into_stale(self, age: Duration) -> Self {
        Self {
            stale_age: Some(age),
            ..self
        }
    }
}
