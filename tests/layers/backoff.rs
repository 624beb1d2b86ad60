use std::{future::ready, time::Duration};

use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_dspy::{Backoff, RetryLayer};

use crate::{
    script::{Log, request, too_slow},
    support::millis as ms,
};

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_backoff_says() {
    let log = Log::default();
    let start = Instant::now();
    RetryLayer::new(4)
        .with_backoff(Backoff::exponential(ms(100), ms(500)).without_jitter())
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request())
        .await
        .expect_err("each attempt fails");
    let at: Vec<_> = log.calls().iter().map(|(at, _)| *at - start).collect();
    assert_eq!(at, [ms(0), ms(100), ms(300), ms(700), ms(1200)]);
}

#[test]
fn backoff_formulas_are_exact_and_never_overflow() {
    let waits = |backoff: Backoff, n: &[u32]| -> Vec<_> {
        n.iter()
            .map(|n| backoff.without_jitter().wait(*n))
            .collect()
    };
    let max = u32::MAX;
    let fixed = Backoff::fixed(ms(7));
    assert_eq!(waits(fixed, &[0, 1, max]), [ms(7); 3]);

    let linear = Backoff::linear(ms(100), ms(350));
    let expected = [ms(100), ms(200), ms(300), ms(350), ms(350)];
    assert_eq!(waits(linear, &[0, 1, 2, 3, max]), expected);
    let endless = Backoff::linear(Duration::MAX, Duration::MAX);
    assert_eq!(waits(endless, &[0, max]), [Duration::MAX; 2]);

    let growing = Backoff::exponential(ms(100), Duration::from_secs(10));
    assert_eq!(growing, Backoff::default());
    let expected = [100, 200, 400, 6_400, 10_000, 10_000, 10_000, 10_000].map(ms);
    assert_eq!(waits(growing, &[0, 1, 2, 6, 7, 64, 128, max]), expected);
    // 2^62 ns, past what a u32 factor reaches; and the cap where even 128 bits end.
    let finest = Backoff::exponential(Duration::from_nanos(1), Duration::MAX);
    assert_eq!(waits(finest, &[62]), [Duration::from_nanos(1 << 62)]);
    assert_eq!(waits(finest, &[127, 128, max]), [Duration::MAX; 3]);
    let endless = Backoff::exponential(Duration::MAX, Duration::MAX);
    assert_eq!(waits(endless, &[0, 1, max]), [Duration::MAX; 3]);
    let none = Backoff::exponential(Duration::ZERO, Duration::MAX);
    assert_eq!(waits(none, &[0, 1, 127, 128, max]), [Duration::ZERO; 5]);
    let capped = Backoff::exponential(ms(500), ms(100));
    assert_eq!(waits(capped, &[0, 1]), [ms(100); 2]);
}

#[test]
fn full_jitter_is_uniform_between_zero_and_the_formula() {
    let exact = Backoff::exponential(ms(100), ms(1000)).without_jitter();
    for n in [0, 2, 9] {
        let most = exact.wait(n);
        let waits: Vec<_> = (0..4000_u64)
            .map(|seed| exact.full_jitter().with_seed(seed << 32).wait(n))
            .collect();
        assert!(waits.iter().all(|wait| *wait <= most));
        let mean = waits.iter().sum::<Duration>() / 4000;
        // Five standard errors of a uniform mean: 5 / sqrt(12 * 4000) = 2.3 %.
        assert!(
            mean > most.mul_f64(0.477) && mean < most.mul_f64(0.523),
            "{mean:?}"
        );
        let low = waits.iter().filter(|wait| **wait < most / 10).count();
        assert!(
            (300..=500).contains(&low),
            "{low} of 4000 in the lowest tenth"
        );
    }
    assert!(Backoff::fixed(Duration::MAX).full_jitter().wait(0) < Duration::MAX);
    assert_eq!(
        Backoff::fixed(Duration::ZERO).full_jitter().wait(3),
        Duration::ZERO
    );
}

#[test]
fn a_seed_makes_the_jitter_repeatable() {
    let seeded = Backoff::default().with_seed(7);
    let draw = |backoff: Backoff| -> Vec<_> { (0..8).map(|n| backoff.wait(n)).collect() };
    assert_eq!(draw(seeded), draw(seeded));
    assert_ne!(draw(seeded), draw(Backoff::default().with_seed(8)));
    assert_ne!(draw(Backoff::default()), draw(Backoff::default()));
}
