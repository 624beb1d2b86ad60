//! A user's own PyO3 code on the host's loop.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3_async_runtimes::{TaskLocals, into_future_with_locals, tokio::future_into_py_with_locals};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tower_dspy::Host;

use crate::support::{call, host, in_a_worker, own_process, start};

/// Calls a coroutine function of the programs, and awaits it on the loop.
async fn run<A>(locals: TaskLocals, function: &'static str, argument: A) -> PyResult<Py<PyAny>>
where
    A: FnOnce(Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> + Send + 'static,
{
    let future = spawn_blocking(move || {
        Python::attach(|py| {
            let function = py.import("escape")?.getattr(function)?;
            let coroutine = match argument(py)? {
                Some(argument) => function.call1((argument,))?,
                None => function.call0()?,
            };
            into_future_with_locals(&locals, coroutine)
        })
    });
    future.await.expect("no panic")?.await
}

async fn extract<T>(value: Py<PyAny>) -> T
where
    T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr> + Send + 'static,
{
    let extract = move || Python::attach(|py| value.bind(py).extract::<T>());
    spawn_blocking(extract)
        .await
        .expect("no panic")
        .expect("it fits")
}

/// The loop; none where the programs run in another process, which is said.
fn loop_of(host: &Host) -> Option<TaskLocals> {
    let locals = host.task_locals();
    if in_a_worker() {
        let error = locals.unwrap_err();
        assert!(error.to_string().contains("worker processes"), "{error}");
        return None;
    }
    Some(locals.unwrap())
}

#[tokio::test]
async fn an_awaitable_runs_on_the_loop_of_the_programs() {
    let host = host().await;
    let Some(locals) = loop_of(&host) else {
        return;
    };
    let there = run(locals.clone(), "where", |_| Ok(None)).await.unwrap();
    let there: Vec<u64> = extract(there).await;
    let programs: Value = call(&host, "escape:where", json!({})).await;
    assert_eq!(json!(there), programs);

    let error = run(locals, "fails", |_| Ok(None)).await.unwrap_err();
    assert!(error.to_string().contains("no such row"), "{error}");
}

#[tokio::test]
async fn python_awaits_a_future_of_rust() {
    let host = host().await;
    let Some(locals) = loop_of(&host) else {
        return;
    };
    let given = locals.clone();
    let sum = run(locals, "one_more", move |py| {
        let future = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(41)
        };
        future_into_py_with_locals(py, given, future).map(Some)
    });
    assert_eq!(extract::<u64>(sum.await.unwrap()).await, 42);
}

#[tokio::test]
async fn a_stopped_host_gives_no_loop() {
    if own_process("both_hosts::task_locals::a_stopped_host_gives_no_loop")
        .await
        .is_some()
    {
        return;
    }
    let host = start().await;
    host.stop(Duration::ZERO).await;
    let error = host.task_locals().unwrap_err();
    assert!(error.to_string().contains("it was stopped"), "{error}");
}
