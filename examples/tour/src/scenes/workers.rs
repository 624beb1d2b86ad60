//! What only a process of its own can stop: C code that keeps the GIL, and a crash.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;
use tower_dspy::{
    Backoff, DspyServiceBuilderExt, ErrorKind, Host, RetryLayer, testing::scripted_lm::Reply,
};

use crate::{
    act::Act,
    progress::Step,
    stage::{Asked, PROGRAMS, SHORT, Trouble, ask, count, question, time, venv_path},
};

const WORKERS: usize = 2;
/// How many others ask while each of the two is there.
const OTHERS: usize = 6;
/// Far longer than a new worker needs.
const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let (stage, limit) = (act.stage, act.stage.short());
    act.has_no_naive_side("in this process, either of the two calls would be the end of the tour.");
    let host = Host::workers(WORKERS)
        .venv(venv_path())
        .python_path(PROGRAMS)
        .kill_after(limit);
    let step = Step::begin("starting two workers");
    let host = host.start().await?;
    step.done();
    let lm = stage.lm("workers", Reply::answer("Rayleigh scattering"));
    // Who was in the process that ends has lost its answer, and asks again.
    let others = ServiceBuilder::new()
        .layer(
            RetryLayer::new(2)
                .on_kinds([ErrorKind::Lost])
                .with_backoff(Backoff::fixed(Duration::from_millis(50))),
        )
        .service(host.load("tour.answer:Answer").lm(lm).await?);
    let others = act.calls.tracked("beside it", others);
    let stuck = ServiceBuilder::new()
        // It has to be at work when this passes: what has not begun needs no kill.
        .deadline(2 * limit)
        .service(host.load("tour.stuck:holds_the_gil").await?);
    let stuck = act.calls.tracked("keeps the GIL", stuck);
    let crashes = host.load("tour.stuck:crashes").await?;
    let crashes = act.calls.tracked("crashes", crashes);

    for (program, expected, crash) in [
        ("keeps the GIL in C code", ErrorKind::Deadline, false),
        ("crashes", ErrorKind::Lost, true),
    ] {
        let nasty = async {
            let request = question(SHORT);
            if crash {
                ask(crashes.clone(), request).await
            } else {
                ask(stuck.clone(), request).await
            }
        };
        let beside = async {
            let mut right = 0;
            for _ in 0..OTHERS {
                right += usize::from(ask(others.clone(), question(SHORT)).await.result.is_ok());
            }
            right
        };
        let lost = 1 + u64::from(crash);
        let (strike, right) = tokio::join!(Strike::of(nasty, replaced(&host, lost)), beside);
        let nasty = strike.asked;
        act.check(
            nasty.failure() == Some(expected),
            format_args!(
                "the call that {program} fails as it must ({})",
                nasty.text()
            ),
        );
        act.check(
            right == OTHERS,
            format_args!(
                "{} of others are right ({right} are)",
                count(OTHERS, "answer")
            ),
        );
        act.check(
            strike.is_full,
            "another worker takes the place of the lost one",
        );
        act.say(format_args!(
            "A call that {program}: its caller has an error after {}, and {} later another worker \
             is in place.",
            time(nasty.took),
            time(strike.replaced_after)
        ));
        act.say(format_args!(
            "Meanwhile {} of others were right.",
            count(right, "answer")
        ));
    }
    let killed = host.worker_stats().map(|stats| stats.killed);
    act.check(killed == Some(1), "only the one that hung had to be killed");
    host.stop(limit).await;
    Ok(())
}

/// The end of a worker by its call, and of the wait for another one, whatever others do meanwhile.
struct Strike {
    asked: Asked,
    /// Whether all workers are there again.
    is_full: bool,
    /// From the caller's outcome to that.
    replaced_after: Duration,
}

impl Strike {
    async fn of(nasty: impl Future<Output = Asked>, replaced: impl Future<Output = bool>) -> Self {
        let asked = nasty.await;
        let is_full = replaced.await;
        Self {
            is_full,
            replaced_after: asked.ended.elapsed(),
            asked,
        }
    }
}

/// Waits until as many workers were lost, and all are there again.
async fn replaced(host: &Host, lost: u64) -> bool {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        let full = host
            .worker_stats()
            .is_some_and(|stats| stats.lost == lost && stats.ready() == WORKERS);
        if full {
            return true;
        }
        sleep(Duration::from_millis(2)).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use tower_dspy::Lost;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_to_another_worker_does_not_count_the_slow_answers_of_others() {
        let nasty = async {
            sleep(Duration::from_secs(1)).await;
            Asked {
                result: Err(Lost::new("it crashed").into()),
                took: Duration::from_secs(1),
                ended: Instant::now(),
            }
        };
        let replaced = async {
            sleep(Duration::from_secs(2)).await;
            true
        };
        let others = sleep(Duration::from_secs(80));
        let (strike, ()) = tokio::join!(Strike::of(nasty, replaced), others);
        assert!(strike.is_full);
        assert_eq!(strike.replaced_after, Duration::from_secs(2));
    }
}
