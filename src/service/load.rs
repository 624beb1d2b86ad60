//! The loading of a program: its options, and the service of it.

use std::{
    future::{Future, IntoFuture},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, RwLock},
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    DspyService, Function, LoadError, LoadErrorKind, MAX_IN_FLIGHT, MAX_WAITING,
    admission::Permits,
    program::{LoadedProgram, Program, ServedProgram},
};
use crate::{
    host::{
        Host,
        core::{
            fault::Fault, program_counts::ProgramCounts, registry::Registrations,
            tool_definition::Tool,
        },
    },
    lm::Lm,
};

impl Host {
    /// Loads a program and makes a service of it. Awaiting the returned [`Load`] does it.
    ///
    /// `target` is one of
    /// - `package.module:attribute`: a `dspy.Module` class (called without arguments) or
    ///   instance, a function that returns one, a `dspy.Signature`, or an `async def` function;
    /// - a signature such as `question -> answer: str`, which becomes a `dspy.Predict`.
    ///
    /// A module with an `aforward` runs on the host's loop. One with a `forward` alone, such as
    /// `dspy.BestOfN`, or with a `forward` that is newer than the `aforward` it inherits, runs on
    /// a thread of its own; see [`Embedded::sync_threads`](crate::host::Embedded::sync_threads).
    /// What a program configures by `dspy.configure` while it is imported holds for it alone.
    ///
    /// A program may be loaded as often as you like, for one request even: with the last clone of
    /// its service and the last of its calls that is in flight, the host forgets it, its LMs and its
    /// tools. The Python module that it comes from stays imported.
    ///
    /// The loads of one process come one after another: two of them may share a module. So one that
    /// waits, as for the credentials of a cloud, holds the later ones up; calls go on.
    pub fn load(&self, target: impl Into<String>) -> Load {
        Load::new(self.clone(), target.into(), None)
    }

    /// Loads a program from Python source, for tests and examples: `attribute` is looked up in it
    /// as in a module.
    pub fn load_source(&self, source: impl Into<String>, attribute: impl Into<String>) -> Load {
        let attribute = attribute.into();
        let target = format!("source:{attribute}");
        Load::from_source(self.clone(), target, source, attribute)
    }

    /// Loads a plain `async def` function: no DSPy, no schema, JSON in and JSON out.
    ///
    /// `source` is its Python source; with `None`, `target` is `package.module:function`.
    ///
    /// # Errors
    /// If there is no such function.
    pub async fn function(
        &self,
        target: &str,
        source: Option<&str>,
    ) -> Result<Function, LoadError> {
        let source = source.map(|code| LoadSource {
            code: code.to_owned(),
            attribute: target.to_owned(),
        });
        let mut load = Load::new(self.clone(), target.to_owned(), source);
        load.function = true;
        let (spec, registrations) = load.to_spec()?;
        let (loaded, registrations) = load.run(spec, registrations).await?;
        Ok(Function {
            host: self.clone(),
            target: loaded.id,
            registrations: Arc::new(registrations),
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct LoadSource {
    pub(super) code: String,
    pub(super) attribute: String,
}

/// A program to be loaded, from [`Host::load`].
#[derive(Clone, Debug)]
#[must_use = "nothing is loaded before this is awaited"]
pub struct Load {
    pub(super) host: Host,
    pub(super) target: String,
    pub(super) source: Option<LoadSource>,
    pub(super) lm: Option<Lm>,
    pub(super) lms: Vec<(String, Lm)>,
    pub(super) predictor_lms: Vec<(String, String)>,
    pub(super) tools: Vec<Tool>,
    pub(super) state: Option<PathBuf>,
    pub(super) trust_pickle: bool,
    pub(super) keeps_httpx: bool,
    pub(super) max_in_flight: usize,
    pub(super) max_in_flight_per_tenant: Option<usize>,
    max_waiting: usize,
    pub(super) function: bool,
}

impl Load {
    fn new(host: Host, target: String, source: Option<LoadSource>) -> Self {
        Self {
            host,
            target,
            source,
            lm: None,
            lms: Vec::new(),
            predictor_lms: Vec::new(),
            tools: Vec::new(),
            state: None,
            trust_pickle: false,
            keeps_httpx: false,
            max_in_flight: MAX_IN_FLIGHT,
            max_in_flight_per_tenant: None,
            max_waiting: MAX_WAITING,
            function: false,
        }
    }

    /// The same from Python source, which `target` is a name for.
    pub(super) fn from_source(
        host: Host,
        target: impl Into<String>,
        code: impl Into<String>,
        attribute: impl Into<String>,
    ) -> Self {
        let source = LoadSource {
            code: code.into(),
            attribute: attribute.into(),
        };
        Self::new(host, target.into(), Some(source))
    }

    /// The LM that the program calls, unless a request [names another](Self::lms).
    ///
    /// DSPy's own retries and its cache are off. A predictor with an LM of its own, also one from
    /// a state, keeps that LM's model and options, with the address and the key of an LM that the
    /// program is loaded with: one of the same model, else this one if it is of the same provider,
    /// else the first that is. If there is none, loading fails and names the predictor.
    pub fn lm(mut self, lm: Lm) -> Self {
        self.lm = Some(lm);
        self
    }

    /// More LMs, by names that requests choose one by:
    /// [`PredictRequest::with_lm`](crate::PredictRequest::with_lm). Each has a key, layers and
    /// limits of its own. Without [`lm`](Self::lm) the first of them is the usual one. A later LM
    /// replaces an earlier one of its name.
    ///
    /// ```no_run
    /// use serde_json::json;
    /// use tower::{Service, ServiceExt};
    /// use tower_dspy::{FallbackLayer, Host, Lm, PredictRequest};
    ///
    /// # async fn example(host: Host) -> Result<(), Box<dyn std::error::Error>> {
    /// let qa = host
    ///     .load("my_pkg.qa:Program")
    ///     .lms([
    ///         ("smart", Lm::new("openai/gpt-4o").key_env("OPENAI_API_KEY")),
    ///         ("cheap", Lm::new("anthropic/claude-3-5-haiku").key_env("ANTHROPIC_API_KEY")),
    ///     ])
    ///     .await?;
    /// let request = PredictRequest::new(json!({"question": "..."})).with_lm("cheap");
    /// qa.clone().oneshot(request).await?;
    ///
    /// // Where the smart one fails, or takes too long, the cheap one answers.
    /// let cheap = qa.clone().map_request(|request: PredictRequest| request.with_lm("cheap"));
    /// let qa = tower::ServiceBuilder::new()
    ///     .layer(FallbackLayer::service(cheap))
    ///     .service(qa);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lms<N: Into<String>>(mut self, lms: impl IntoIterator<Item = (N, Lm)>) -> Self {
        for (name, lm) in lms {
            let name = name.into();
            match self.lms.iter_mut().find(|(known, _)| *known == name) {
                Some((_, earlier)) => *earlier = lm,
                None => self.lms.push((name, lm)),
            }
        }
        self
    }

    /// Gives one predictor of the program, such as `answer` or `steps[0].answer`, an LM of its own
    /// by its name among [`lms`](Self::lms), in place of whatever it has. It then calls that LM
    /// whichever a request chooses. Loading fails if there is no such predictor or no such LM.
    pub fn predictor_lm(mut self, predictor: impl Into<String>, lm: impl Into<String>) -> Self {
        self.predictor_lms.push((predictor.into(), lm.into()));
        self
    }

    /// Offers the program a [`Tool`], which it gets by `tower_dspy.tools()`. A signature becomes a
    /// `dspy.ReAct` with the tools that it is loaded with.
    ///
    /// ```no_run
    /// use serde_json::json;
    /// use tower_dspy::{Host, Lm, Tool, ToolCall};
    ///
    /// # async fn example(host: Host, lm: Lm) -> Result<(), Box<dyn std::error::Error>> {
    /// let weather = Tool::new("weather", "Tells today's weather.", |call: ToolCall| async move {
    ///     Ok::<_, tower::BoxError>(format!("It is sunny in {}.", call.arguments["city"]))
    /// });
    /// let weather = weather.argument("city", json!({"type": "string"}));
    /// let agent = host.load("question -> answer").lm(lm).tool(weather).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Loads a state that `program.save("state.json")` wrote, such as an optimizer's result.
    pub fn state(mut self, path: impl Into<PathBuf>) -> Self {
        self.state = Some(path.into());
        self
    }

    /// Loads a state from a pickle. **A pickle runs any code its author wishes**: give only files
    /// that you trust as you trust your own program.
    pub fn state_from_trusted_pickle(mut self, path: impl Into<PathBuf>) -> Self {
        self.state = Some(path.into());
        self.trust_pickle = true;
        self
    }

    /// Leaves the program's requests by httpx that are no LM calls to httpx, as without a host.
    ///
    /// Else they go through the host: with the deadline of their call, and ended with it, on threads
    /// as well. LM calls, and embeddings, go through it in any case.
    pub fn keep_httpx(mut self) -> Self {
        self.keeps_httpx = true;
        self
    }

    /// How many calls of the program may be in flight at once: 64 unless said otherwise. The load
    /// fails with [`LoadErrorKind::Option`] for 0, which would let nothing run.
    ///
    /// A call is in flight until all its work in Python has ended, which may be after its caller
    /// has its answer, or has given up.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// How many calls of one [`Tenant`](crate::Tenant) may be in flight at once, so that no tenant has
    /// all of [`max_in_flight`](Self::max_in_flight): no limit unless said otherwise; 0 is refused. Calls
    /// without a tenant count as calls of one.
    ///
    /// One more call of the tenant is answered [`Overloaded`](crate::Overloaded) when its turn comes, as
    /// it waits for one of `max_in_flight` first and counts among
    /// [`max_waiting`](Self::max_waiting); a [`RetryLayer`](crate::RetryLayer) whose `on_kinds` have
    /// that kind tries it again. As an attempt is in flight until its work has ended, a retry, a fallback or a hedge may need a place
    /// beside that of the attempt before it.
    ///
    /// ```no_run
    /// use serde_json::json;
    /// use tower::ServiceExt;
    /// use tower_dspy::{Host, Lm, PredictRequest, Tenant};
    ///
    /// # async fn example(host: Host, lm: Lm) -> Result<(), Box<dyn std::error::Error>> {
    /// let load = host.load("question -> answer").lm(lm);
    /// let qa = load.max_in_flight(64).max_in_flight_per_tenant(16).await?;
    /// let request = PredictRequest::new(json!({"question": "..."}));
    /// qa.oneshot(request.with_tenant(Tenant::new("acme"))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_in_flight_per_tenant(mut self, calls: usize) -> Self {
        self.max_in_flight_per_tenant = Some(calls);
        self
    }

    /// How many more calls may wait for their turn before the service answers
    /// [`Overloaded`](crate::Overloaded): 1024 unless said otherwise.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.max_waiting = calls;
        self
    }

    /// What is to be loaded.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// How many of its calls may be in flight at once.
    pub(crate) const fn most_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// The LMs that it is loaded with.
    pub(crate) fn all_lms(&self) -> impl Iterator<Item = &Lm> {
        self.lm.iter().chain(self.lms.iter().map(|(_, lm)| lm))
    }

    async fn run(
        &self,
        spec: Value,
        registrations: Registrations,
    ) -> Result<(LoadedProgram, Registrations), LoadError> {
        let loaded = self.host.core().load(spec, registrations).await;
        let (loaded, registrations) = self.answered(loaded)?;
        let loaded = LoadedProgram::deserialize(loaded)
            .map_err(|error| self.fail(LoadErrorKind::Other, error.to_string()))?;
        Ok((loaded, registrations))
    }

    /// Loads the program of `spec` and makes a service of it.
    pub(super) async fn into_service(
        self,
        spec: Value,
        registrations: Registrations,
    ) -> Result<DspyService, LoadError> {
        let (loaded, registrations) = self.run(spec, registrations).await?;
        let served = self.served(registrations);
        Ok(DspyService::new(Program {
            host: self.host,
            counts: Arc::new(ProgramCounts::new(&self.target)),
            name: self.target.into(),
            loaded,
            served: RwLock::new(served),
            permits: Permits::new(self.max_in_flight, self.max_waiting)
                .with_max_per_tenant(self.max_in_flight_per_tenant),
        }))
    }

    /// The answer of Python's side, or the error of a loading.
    pub(super) fn answered<T>(&self, answer: Option<Result<T, Fault>>) -> Result<T, LoadError> {
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(fault)) => Err(LoadError::of_fault(&self.target, fault)),
            None => {
                let reason = self.host.closed().unwrap_or("it dropped the request");
                let problem = format!("the Python host is gone ({reason})");
                Err(self.fail(LoadErrorKind::Lost, problem))
            }
        }
    }

    pub(super) fn fail(&self, kind: LoadErrorKind, problem: impl Into<String>) -> LoadError {
        LoadError::new(kind, &self.target, problem)
    }

    pub(super) fn served(&self, registrations: Registrations) -> ServedProgram {
        ServedProgram {
            lms: self.lms.iter().map(|(name, _)| name.clone()).collect(),
            registrations: Arc::new(registrations),
        }
    }
}

impl IntoFuture for Load {
    type Output = Result<DspyService, LoadError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (spec, registrations) = self.to_spec()?;
            self.into_service(spec, registrations).await
        })
    }
}
