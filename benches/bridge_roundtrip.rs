//! `async def f(x): return x` there and back: through the bridge, through pyo3-async-runtimes'
//! `into_future`, and from inside Python as the floor. The three take turns in one run.
//!
//! Run: `cargo bench --bench bridge_roundtrip`

mod support;

use std::{sync::Arc, time::Duration};

use pyo3::{prelude::*, types::PyDict};
use serde_json::json;
use support::{figure, host, median};
use tokio::time::Instant;
use tower_dspy::service::Function;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(400);

const ECHO: &str = "async def f(x): return x";

/// Tasks made directly, not through the loop's factory, which would count them as a call's.
const FLOOR: &str = "
import asyncio, time

async def f(x): return x

async def floor(clients, seconds):
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds
    done = 0
    async def client():
        nonlocal done
        while time.perf_counter() < end:
            await asyncio.Task(f(1), loop=loop)
            done += 1
    began = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(clients)])
    return done / (time.perf_counter() - began)
";

#[tokio::main]
async fn main() {
    let host = host().await;
    let echo = host.function("f", Some(ECHO)).await.expect("f");
    let floor = host.function("floor", Some(FLOOR)).await.expect("floor");
    let naive = Arc::new(Naive::start());

    for clients in [1, 64] {
        let (mut ours, mut theirs, mut best) = (vec![], vec![], vec![]);
        for round in 0..=ROUNDS {
            let bridge = rate(clients, || call(echo.clone())).await;
            let into_future = rate(clients, || into_future(naive.clone())).await;
            let arguments = json!({"clients": clients, "seconds": ROUND.as_secs_f64()});
            let asyncio = floor.call(arguments).await.expect("a rate");
            // The first round warms up.
            if round > 0 {
                ours.push(bridge);
                theirs.push(into_future);
                best.push(asyncio.as_f64().expect("a number"));
            }
        }
        let ratios = |others: &[f64]| median(ours.iter().zip(others).map(|(a, b)| a / b).collect());
        let (naive, floor) = (ratios(&theirs), ratios(&best));
        figure(
            &format!("roundtrip_c{clients}_calls_per_s"),
            median(ours.clone()),
            "1/s",
        );
        figure(
            &format!("roundtrip_c{clients}_into_future_calls_per_s"),
            median(theirs.clone()),
            "1/s",
        );
        figure(
            &format!("roundtrip_c{clients}_asyncio_floor_calls_per_s"),
            median(best.clone()),
            "1/s",
        );
        figure(&format!("roundtrip_c{clients}_vs_into_future"), naive, "x");
        figure(
            &format!("roundtrip_c{clients}_vs_asyncio_floor"),
            floor,
            "x",
        );
    }
}

/// Calls a second with `clients` callers, each waiting for its answer.
async fn rate<F, Fut>(clients: usize, mut client: F) -> f64
where
    F: FnMut() -> Fut,
    Fut: Future<Output = u64> + Send + 'static,
{
    let began = Instant::now();
    let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(client())).collect();
    let mut calls = 0;
    for client in clients {
        calls += client.await.expect("a client");
    }
    calls as f64 / began.elapsed().as_secs_f64()
}

async fn call(echo: Function) -> u64 {
    let end = Instant::now() + ROUND;
    let mut calls = 0;
    while Instant::now() < end {
        assert_eq!(echo.call(json!({"x": 1})).await.expect("an echo"), 1);
        calls += 1;
    }
    calls
}

/// The usual way: a loop on a thread, and tokio threads that attach.
struct Naive {
    locals: pyo3_async_runtimes::TaskLocals,
    echo: Py<PyAny>,
}

impl Naive {
    fn start() -> Self {
        Python::attach(|py| {
            let globals = PyDict::new(py);
            let source = std::ffi::CString::new(format!(
                "{ECHO}\n\
                 import asyncio, threading\n\
                 loop = asyncio.new_event_loop()\n\
                 threading.Thread(target=loop.run_forever, daemon=True).start()\n"
            ))
            .expect("no zero byte");
            py.run(&source, Some(&globals), None).expect("a loop");
            let event_loop = globals.get_item("loop").expect("a dict").expect("loop");
            Self {
                locals: pyo3_async_runtimes::TaskLocals::new(event_loop),
                echo: globals.get_item("f").expect("a dict").expect("f").unbind(),
            }
        })
    }
}

async fn into_future(naive: Arc<Naive>) -> u64 {
    let end = Instant::now() + ROUND;
    let mut calls = 0;
    while Instant::now() < end {
        let future = Python::attach(|py| {
            let coroutine = naive.echo.bind(py).call1((1,))?;
            pyo3_async_runtimes::into_future_with_locals(&naive.locals, coroutine)
        })
        .expect("a future");
        let value = future.await.expect("an echo");
        assert_eq!(
            Python::attach(|py| value.extract::<i64>(py)).expect("a number"),
            1
        );
        calls += 1;
    }
    calls
}
