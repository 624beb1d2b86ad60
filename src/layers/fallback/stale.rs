//! [`Stale`]: the last good answer.

use std::{
    fmt,
    future::{Ready, ready},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use moka::sync::Cache;
use serde_json::Value;
use tokio::time::Instant;

use super::FallbackStrategy;
use crate::request::{PredictRequest, Prediction, Tenant};

/// Requests whose answers are kept unless it is told otherwise.
const CAPACITY: u64 = 1_000;

/// How much longer than its age allows an answer may lie in memory: the cache goes by the clock of
/// the machine, the age by tokio's, which a test may hold.
const SLACK: Duration = Duration::from_secs(60);

/// More than any cache outlives, and less than what moka refuses.
const LONGEST: Duration = Duration::from_secs(86_400 * 365 * 100);

/// Answers a call that failed with the last good answer to the same question, if that is not too
/// old, and says how old it is.
///
/// It keeps each answer of the service that it stands in for, but no answer of a fallback, and none
/// that is stale already. So its age is always that of the answer itself. A call to whose question
/// there is no answer, or none that is young enough, keeps its error, which goes on to the next
/// fallback of a [chain](super::FallbackLayer::or) or to the caller.
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
/// Where fallbacks do, outside of what learns how long a service takes: an earlier answer takes no
/// time. A typed service hands on the outputs only, so around one the age is seen
/// if its answers are put into [`StaleValue`] there, and not if the fallback is within.
///
/// # What it costs
/// A clone of each answer, and the memory of as many keys and answers as its
/// [capacity](Stale::with_capacity) allows, 1000 by default: those asked for often stay longest
/// (moka's TinyLFU). An answer is dropped at the latest a minute after it became too old. Neither
/// keys nor answers are shown by `Debug`.
pub struct Stale<F, K, T> {
    key: Arc<F>,
    answers: Cache<K, Arc<StaleEntry<T>>>,
    max_age: Duration,
    capacity: u64,
}

/// The last good answers of a program, by its inputs and the tenant.
pub type StalePrediction = Stale<fn(&PredictRequest) -> Question, Question, Prediction>;

/// The inputs of a request, and its tenant.
type Question = (Arc<Value>, Option<Tenant>);

struct StaleEntry<T> {
    answer: T,
    since: Instant,
}

impl StalePrediction {
    /// Keeps predictions by the inputs and the tenant of their requests, each for `max_age`.
    #[must_use]
    pub fn predictions(max_age: Duration) -> Self {
        Self::with_key(max_age, PredictRequest::question)
    }
}

impl<F, K, T> Stale<F, K, T>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Keeps answers by what `key` makes of their requests, each for `max_age`.
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
        Self::with_key(max_age, key)
    }

    fn with_key(max_age: Duration, key: F) -> Self {
        Self {
            key: Arc::new(key),
            answers: cache(max_age, CAPACITY),
            max_age,
            capacity: CAPACITY,
        }
    }

    /// One that has kept nothing yet, with room for the answers to this many questions.
    #[must_use]
    pub fn with_capacity(self, answers: u64) -> Self {
        Self {
            answers: cache(self.max_age, answers),
            capacity: answers,
            ..self
        }
    }

    /// Forgets all answers, as after the program was changed.
    pub fn clear(&self) {
        self.answers.invalidate_all();
    }
}

fn cache<K, T>(max_age: Duration, capacity: u64) -> Cache<K, Arc<StaleEntry<T>>>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
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
{
    type Kept = K;
    type Future = Ready<Result<T, E>>;

    fn keep(&self, request: &R) -> K {
        (self.key)(request)
    }

    fn record(&self, key: K, answer: &T) {
        if answer.stale_age().is_none() {
            let entry = StaleEntry {
                answer: answer.clone(),
                since: Instant::now(),
            };
            self.answers.insert(key, Arc::new(entry));
        }
    }

    fn answer(self, error: E, key: K) -> Result<Self::Future, E> {
        let Some(entry) = self.answers.get(&key) else {
            return Err(error);
        };
        let age = entry.since.elapsed();
        if age > self.max_age {
            return Err(error);
        }
        Ok(ready(Ok(entry.answer.clone().into_stale(age))))
    }
}

impl<F, K, T> Clone for Stale<F, K, T> {
    fn clone(&self) -> Self {
        Self {
            key: Arc::clone(&self.key),
            answers: self.answers.clone(),
            max_age: self.max_age,
            capacity: self.capacity,
        }
    }
}

/// A key repeats a prompt, and an answer may, so neither is shown.
impl<F, K, T> fmt::Debug for Stale<F, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stale")
            .field("max_age", &self.max_age)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// An answer that says whether it is an earlier one: a [`Prediction`], or any other in [`StaleValue`].
pub trait Staleness {
    /// How old it is, if it stands in for another.
    fn stale_age(&self) -> Option<Duration>;

    /// The same answer, standing in for another that failed, `age` after it was given.
    #[must_use]
    fn into_stale(self, age: Duration) -> Self;
}

/// It keeps its outputs. What it cost was counted before, so its usage is that of nothing.
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
    /// How old it is, if it stands in for another; `None` if it is fresh.
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
