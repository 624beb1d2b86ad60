//! [`Tool`]: a Rust function that a program may call, as its LM decides.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    call::{CallContext, Cancel, Carrier, drop_scope},
    request::Tenant,
};

/// An async Rust function, or a tower service, that a program gets as a `dspy.Tool`: see
/// [`Load::tool`](crate::service::Load::tool).
///
/// ```
/// use serde_json::json;
/// use tower_dspy::{Tool, ToolCall};
///
/// # #[derive(Debug, thiserror::Error)]
/// # #[error("no index")]
/// # struct NoIndex;
/// # async fn find(query: &str, most: u64) -> Result<Vec<String>, NoIndex> { Ok(vec![]) }
/// let search = Tool::new("search", "Finds passages of the manual.", |call: ToolCall| async move {
///     #[derive(serde::Deserialize)]
///     struct Search {
///         query: String,
///         most: Option<u64>,
///     }
///     let Search { query, most } = call.parse()?;
///     Ok::<_, tower::BoxError>(find(&query, most.unwrap_or(5)).await?)
/// })
/// .argument("query", json!({"type": "string", "description": "what to look for"}))
/// .optional("most", json!({"type": "integer", "description": "how many passages; 5 by default"}));
/// ```
///
/// Python asks for it while the program is made, and hands it to whatever takes tools:
/// ```python
/// import dspy
/// import tower_dspy
///
/// class Agent(dspy.Module):
///     def __init__(self):
///         super().__init__()
///         self.react = dspy.ReAct("question -> answer", tools=tower_dspy.tools())
///
///     async def aforward(self, question: str):
///         return await self.react.acall(question=question)
/// ```
/// `tower_dspy.tools("search")` gives those of these names, in this order. In async code a tool is
/// awaited (`await tool.acall(query=..)`), in sync code it is called; that thread waits without the
/// GIL. Where a program runs without a host there are none.
///
/// # Where it runs
/// On the tokio runtime that the program was loaded on, or the host's own for LM calls if it was
/// loaded on none; never under the GIL. Code that blocks belongs in `spawn_blocking`.
///
/// # When it ends
/// It has the call's context: its deadline, its id, and a cancel node. When the call is cancelled
/// or its deadline passes, the future is dropped; no tool of it starts after that. What the tool
/// itself spawned can watch the node of [`ToolCall::context`], which is cancelled then too.
///
/// # When it fails
/// Its error is raised in Python as `tower_dspy.ToolError`, with the messages of the error and its
/// sources. `dspy.ReAct` shows that to the LM, which goes on: keep secrets out of it. So it is with
/// a panic, which is caught, and logged too.
#[derive(Clone, Debug)]
pub struct Tool {
    name: Arc<str>,
    description: Arc<str>,
    arguments: Map<String, Value>,
    required: Vec<String>,
    service: BoxCloneSyncService<ToolCall, Value, BoxError>,
}

impl Tool {
    /// A tool of an async function. The LM chooses it by `name` and `description`.
    ///
    /// A name has ASCII letters, digits, `_` and `-`; loading refuses others, and `finish`, which
    /// is DSPy's.
    pub fn new<F, Fut, T, E>(
        name: impl Into<Arc<str>>,
        description: impl Into<Arc<str>>,
        function: F,
    ) -> Self
    where
        F: Fn(ToolCall) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::service(name, description, tower::service_fn(function))
    }

    /// A tool of a tower service, so that its calls go through layers: a
    /// [`TimeoutLayer`](crate::TimeoutLayer), a limit, a cache.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::{BoxError, ServiceBuilder, limit::GlobalConcurrencyLimitLayer, service_fn};
    /// use tower_dspy::{TimeoutLayer, Tool, ToolCall};
    ///
    /// let clock = ServiceBuilder::new()
    ///     .map_err(BoxError::from)
    ///     .layer(TimeoutLayer::new(Duration::from_secs(2)))
    ///     .layer(GlobalConcurrencyLimitLayer::new(8))
    ///     .service(service_fn(|_: ToolCall| async { Ok::<_, BoxError>("noon") }));
    /// let clock = Tool::service("clock", "Tells the time.", clock);
    /// ```
    pub fn service<S>(
        name: impl Into<Arc<str>>,
        description: impl Into<Arc<str>>,
        service: S,
    ) -> Self
    where
        S: Service<ToolCall> + Clone + Send + Sync + 'static,
        S::Response: Serialize + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send + 'static,
    {
        let service = service.map_err(Into::<BoxError>::into);
        let service = service.map_result(|result: Result<S::Response, BoxError>| {
            serde_json::to_value(result?).map_err(BoxError::from)
        });
        Self {
            name: name.into(),
            description: description.into(),
            arguments: Map::new(),
            required: Vec::new(),
            service: BoxCloneSyncService::new(service),
        }
    }

    /// Takes an argument that each call must give. `schema` is its JSON schema, such as
    /// `{"type": "string", "description": "..."}`, which the LM is shown and calls are checked by.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, schema: Value) -> Self {
        let name = name.into();
        self.required.push(name.clone());
        self.arguments.insert(name, schema);
        self
    }

    /// Takes an argument that calls may leave out.
    #[must_use]
    pub fn optional(mut self, name: impl Into<String>, schema: Value) -> Self {
        self.arguments.insert(name.into(), schema);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with it, if something is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let name = &*self.name;
        let ours = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(ours) {
            return Err(format!(
                "the tool `{name}` needs a name of ASCII letters, digits, `_` and `-`"
            ));
        }
        if name == "finish" {
            return Err("no tool can be called `finish`: DSPy has one of that name".into());
        }
        match self
            .arguments
            .iter()
            .find(|(_, schema)| !schema.is_object())
        {
            Some((argument, _)) => Err(format!(
                "the argument `{argument}` of the tool `{name}` needs a JSON schema, an object such \
                 as {{\"type\": \"string\"}}"
            )),
            None => Ok(()),
        }
    }

    /// What Python's side makes it of.
    pub(crate) fn spec(&self, id: usize) -> Value {
        json!({
            "id": id,
            "name": &*self.name,
            "description": &*self.description,
            "arguments": self.arguments,
            "required": self.required,
        })
    }

    /// Calls the function.
    pub(crate) async fn run(self, mut call: ToolCall) -> Result<Value, BoxError> {
        let missing = |name: &&String| !call.arguments.contains_key(name.as_str());
        if let Some(name) = self.required.iter().find(missing) {
            return Err(format!("the argument `{name}` is missing").into());
        }
        // A node of its own: cancelled when this future ends, or is dropped.
        let node = call.context.cancel.child();
        call.context.cancel = node.clone();
        let _guard = ToolCallGuard(node);
        self.service.oneshot(call).await
    }
}

/// Cancels what belongs to a call of a tool when that has ended.
struct ToolCallGuard(Cancel);

impl Drop for ToolCallGuard {
    fn drop(&mut self) {
        self.0.cancel(drop_scope::cause());
    }
}

/// One call of a [`Tool`]. It is a [`Carrier`]: the layers of this crate go around a tool as they
/// go around a program.
#[derive(Clone)]
#[non_exhaustive]
pub struct ToolCall {
    /// What the LM chose to pass, checked by the schemas of the arguments.
    pub arguments: Map<String, Value>,
    /// The context of the program's call, with a cancel node of the tool's own.
    pub context: CallContext,
    /// Whom the program's call is made for.
    pub tenant: Option<Tenant>,
}

impl ToolCall {
    /// A call with these arguments, as a test makes one.
    #[must_use]
    pub fn new(arguments: Map<String, Value>) -> Self {
        Self {
            arguments,
            context: CallContext::new(),
            tenant: None,
        }
    }

    /// The arguments as a struct.
    ///
    /// # Errors
    /// If one is missing or of another type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(Value::Object(self.arguments.clone()))
    }
}

impl Carrier for ToolCall {
    fn context(&self) -> Option<&CallContext> {
        Some(&self.context)
    }

    fn context_mut(&mut self) -> &mut CallContext {
        &mut self.context
    }
}

/// Names the arguments only: they may repeat what the program was asked.
impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolCall")
            .field("arguments", &self.arguments.keys().collect::<Vec<_>>())
            .field("context", &self.context)
            .field("tenant", &self.tenant)
            .finish()
    }
}

/// A tool is a service itself, so that a Rust test calls it without a program.
impl Service<ToolCall> for Tool {
    type Response = Value;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Value, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The function is waited for within the call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: ToolCall) -> Self::Future {
        Box::pin(self.clone().run(call))
    }
}
