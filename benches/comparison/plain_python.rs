//! DSPy by PyO3 alone, as services have it without this crate: an asyncio loop on a thread, and
//! `pyo3_async_runtimes::into_future`, or a blocking call on a thread of tokio's pool.

use std::{
    ffi::CString,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pyo3::{
    prelude::*,
    types::{PyCFunction, PyDict, PyTuple},
};
use pyo3_async_runtimes::TaskLocals;
use serde_json::json;
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_resilience::timelimiter::TimeLimiterLayer;

use crate::{
    LIMIT, Trouble,
    callers::{FIRST, no_counts},
    part::{PROGRAMS, Part, serve_commands},
};

const SET_UP: &str = "
import site, sys
site.addsitedir(packages)
sys.path.insert(0, programs_folder)
import asyncio, threading
import dspy, programs
dspy.configure(lm=programs.lm(url, model))
answer, sync_answer = programs.Answer(), programs.SyncAnswer()
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

async def ask(question):
    return (await answer.acall(question=question)).answer

def ask_sync(question):
    return sync_answer(question=question).answer

def submit(question, done):
    future = asyncio.run_coroutine_threadsafe(ask(question), loop)
    future.add_done_callback(done)
    return future
";

/// An interpreter with the programs in it.
struct PlainPython {
    globals: Py<PyDict>,
    locals: TaskLocals,
}

impl PlainPython {
    fn start(part: &Part) -> Result<Arc<Self>, Trouble> {
        Python::initialize();
        Python::attach(|py| {
            let version = py.version_info();
            let packages = format!(
                "{}/lib/python{}.{}/site-packages",
                part.venv, version.major, version.minor
            );
            let globals = PyDict::new(py);
            globals.set_item("packages", packages)?;
            globals.set_item("programs_folder", PROGRAMS)?;
            globals.set_item("url", &part.url)?;
            globals.set_item("model", &part.model)?;
            py.run(&CString::new(SET_UP)?, Some(&globals), None)?;
            let event_loop = globals.get_item("loop")?.ok_or("no loop")?;
            Ok(Arc::new(Self {
                locals: TaskLocals::new(event_loop),
                globals: globals.unbind(),
            }))
        })
    }

    fn function<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.globals.bind(py).as_any().get_item(name)
    }

    /// Asks by a coroutine; dropping the future leaves that running.
    async fn ask(self: Arc<Self>, question: String) -> PyResult<()> {
        let future = Python::attach(|py| {
            let coroutine = self.function(py, "ask")?.call1((question,))?;
            pyo3_async_runtimes::into_future_with_locals(&self.locals, coroutine)
        })?;
        future.await.map(drop)
    }

    /// Asks on this thread.
    fn ask_sync(&self, question: String) -> PyResult<()> {
        Python::attach(|py| self.function(py, "ask_sync")?.call1((question,)).map(drop))
    }

    /// Asks by a coroutine that is cancelled when the future is dropped.
    async fn ask_with_guard(self: Arc<Self>, question: String) -> PyResult<()> {
        let (sender, mut done) = mpsc::unbounded_channel();
        let task = CancelOnDrop(Python::attach(|py| {
            let is_done = PyCFunction::new_closure(
                py,
                None,
                None,
                move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                    let _ = sender.send(());
                },
            )?;
            let task = self.function(py, "submit")?.call1((question, is_done))?;
            PyResult::Ok(task.unbind())
        })?);
        done.recv().await;
        Python::attach(|py| task.0.call_method0(py, "result")).map(drop)
    }
}

/// The future of a coroutine, which ends with it.
struct CancelOnDrop(Py<PyAny>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // A future that is done ignores the cancel.
        let _ = Python::attach(|py| self.0.call_method0(py, "cancel"));
    }
}

/// `tokio::time::timeout` around `into_future`.
pub(crate) async fn into_future(part: &Part) -> Result<(), Trouble> {
    let python = PlainPython::start(part)?;
    python.clone().ask(FIRST.into()).await?;
    let ask = |question| {
        let asked = timeout(LIMIT, python.clone().ask(question));
        async { asked.await.is_ok_and(|asked| asked.is_ok()) }
    };
    serve_commands(ask, no_counts).await
}

/// `tokio::time::timeout` around a blocking call on a thread of tokio's pool.
pub(crate) async fn blocking(part: &Part) -> Result<(), Trouble> {
    let python = PlainPython::start(part)?;
    python.ask_sync(FIRST.into())?;
    let ask = |question| {
        let python = python.clone();
        async move {
            let asked = spawn_blocking(move || python.ask_sync(question));
            matches!(timeout(LIMIT, asked).await, Ok(Ok(Ok(()))))
        }
    };
    serve_commands(ask, no_counts).await
}

/// `tokio::time::timeout` around a coroutine that is cancelled when its future is dropped.
pub(crate) async fn drop_guard(part: &Part) -> Result<(), Trouble> {
    let python = PlainPython::start(part)?;
    python.clone().ask_with_guard(FIRST.into()).await?;
    let ask = |question| {
        let asked = timeout(LIMIT, python.clone().ask_with_guard(question));
        async { asked.await.is_ok_and(|asked| asked.is_ok()) }
    };
    serve_commands(ask, no_counts).await
}

/// The time limiter of tower-resilience around `into_future`, as its documentation sets it.
pub(crate) async fn tower_resilience(part: &Part) -> Result<(), Trouble> {
    let python = PlainPython::start(part)?;
    python.clone().ask(FIRST.into()).await?;
    let elapsed = Arc::new(AtomicU64::new(0));
    let counter = elapsed.clone();
    let layer = TimeLimiterLayer::builder()
        .timeout_duration(LIMIT)
        .cancel_running_future(true)
        .on_timeout(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .build();
    let service = layer.layer(service_fn(move |question| python.clone().ask(question)));
    let ask = |question: String| {
        let asked = service.clone().oneshot(question);
        async { asked.await.is_ok() }
    };
    serve_commands(
        ask,
        || json!({ "given_up": elapsed.load(Ordering::Relaxed) }),
    )
    .await
}
