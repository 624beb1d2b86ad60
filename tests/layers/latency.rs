use std::time::Duration;

use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{BoxError, ServiceExt};
use tower_dspy::{Latency, Percentile, RecordLatency, RecordLatencyLayer};

use super::support::*;

/// `value` is not less than `exact`, and at most one percent more.
#[track_caller]
fn close(value: Option<Duration>, exact: Duration) {
    let value = value.expect("enough was learnt");
    assert!(
        value >= exact && value <= exact + exact / 100 + Duration::from_micros(1),
        "{value:?} instead of {exact:?}"
    );
}

fn percentile(share: f64) -> Percentile {
    Percentile::new(share).unwrap()
}

#[tokio::test(start_paused = true)]
async fn percentiles_of_known_data_are_right() {
    let latency = Latency::default();
    // In an order that is not theirs.
    for n in (1..=1_000).map(|n| n * 8 % 1_001) {
        latency.record(millis(n));
    }
    assert_eq!(latency.samples(), 1_000);
    close(latency.percentile(Percentile::P50), millis(500));
    close(latency.percentile(Percentile::P90), millis(900));
    close(latency.percentile(Percentile::P95), millis(950));
    close(latency.percentile(Percentile::P99), millis(990));
    close(latency.percentile(percentile(1.0)), millis(1_000));
    close(latency.percentile(percentile(0.001)), millis(1));
}

#[tokio::test(start_paused = true)]
async fn latencies_are_kept_to_the_microsecond_and_clamped_to_the_bounds() {
    for (duration, learnt) in [
        (Duration::ZERO, Duration::from_micros(1)),
        (Duration::from_micros(1), Duration::from_micros(1)),
        (Duration::from_micros(237), Duration::from_micros(237)),
        (secs(3_600), secs(3_600)),
        (Duration::MAX, secs(3_600)),
    ] {
        let latency = Latency::default().with_min_samples(1);
        latency.record(duration);
        close(latency.percentile(Percentile::P50), learnt);
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_percentile_before_enough_samples() {
    let latency = Latency::default();
    for _ in 0..19 {
        latency.record(secs(1));
    }
    assert_eq!(latency.percentile(Percentile::P95), None);
    latency.record(secs(1));
    close(latency.percentile(Percentile::P95), secs(1));

    let latency = Latency::default().with_min_samples(0);
    assert_eq!(latency.percentile(Percentile::P95), None);
}

#[tokio::test(start_paused = true)]
async fn samples_older_than_the_window_are_forgotten() {
    let latency = Latency::new(secs(60));
    for _ in 0..100 {
        latency.record(secs(9));
    }
    advance(secs(29)).await;
    for _ in 0..100 {
        latency.record(secs(1));
    }
    close(latency.percentile(Percentile::P95), secs(9));
    // The old and the new are in one half window.
    advance(secs(30)).await;
    for _ in 0..50 {
        latency.record(secs(2));
    }
    assert_eq!(latency.samples(), 250);
    close(latency.percentile(Percentile::P95), secs(9));
    // 61 s, and the next half.
    advance(secs(2)).await;
    assert_eq!(latency.samples(), 50);
    close(latency.percentile(Percentile::P50), secs(2));
    advance(secs(30)).await;
    assert_eq!(latency.samples(), 0);
    assert_eq!(latency.percentile(Percentile::P50), None);
}

#[tokio::test(start_paused = true)]
async fn a_long_silence_forgets_everything() {
    let latency = Latency::new(secs(60));
    for _ in 0..100 {
        latency.record(secs(9));
    }
    advance(secs(86_400)).await;
    assert_eq!(latency.percentile(Percentile::P50), None);
    for _ in 0..20 {
        latency.record(secs(1));
    }
    close(latency.percentile(percentile(1.0)), secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_cached_percentile_is_little_behind() {
    let latency = Latency::default();
    let mut asked = None;
    for n in 1..=2_000 {
        latency.record(millis(n));
        // More of them than are remembered.
        for share in [0.5, 0.6, 0.7, 0.8, 0.9, 0.95] {
            asked = latency.percentile(percentile(share));
        }
    }
    let asked = asked.unwrap();
    let least = millis(2_000 * 95 / 100 * 16 / 17);
    assert!(asked >= least && asked <= millis(1_920), "{asked:?}");
}

#[test]
fn many_threads_record_together() {
    let latency = Latency::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..1_000 {
                    latency.record(millis(n));
                    let _ = latency.percentile(Percentile::P95);
                }
            });
        }
    });
    assert_eq!(latency.samples(), 4_000);
}

#[test]
fn a_percentile_outside_zero_to_one_is_refused() {
    for share in [0.0, -0.5, 1.000_1, 95.0, f64::NAN, f64::INFINITY] {
        let error = Percentile::new(share).unwrap_err();
        assert!(error.to_string().contains(&format!("got {share}")));
        assert_eq!(error.value().to_bits(), share.to_bits());
    }
    const P999: Result<Percentile, tower_dspy::OutOfRange> = Percentile::new(0.999);
    assert_eq!(P999.unwrap().get(), 0.999);
}

#[tokio::test(start_paused = true)]
async fn answers_are_recorded_and_failures_are_not() {
    let latency = Latency::default().with_min_samples(1);
    let service = RecordLatency::new(
        Record::default().answers(secs(2)),
        latency.clone(),
        Percentile::P95,
    );
    service.oneshot(request()).await.unwrap();
    close(latency.percentile(Percentile::P95), secs(2));

    let fails = tower::service_fn(|_: Request| async { Err::<(), BoxError>("no".into()) });
    let service = RecordLatency::new(fails, latency.clone(), Percentile::P95);
    service.oneshot(request()).await.unwrap_err();
    assert_eq!(latency.samples(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_call_is_recorded_if_it_outlived_the_percentile() {
    let latency = Latency::default();
    let service = RecordLatency::new(
        Record::default().answers(secs(60)),
        latency.clone(),
        Percentile::P95,
    );
    let stop_after = async |limit| {
        let mut call = task::spawn(service.clone().oneshot(request()));
        assert_pending!(call.poll());
        advance(limit).await;
    };
    // Nothing is known yet.
    stop_after(secs(9)).await;
    assert_eq!(latency.samples(), 0);
    for _ in 0..20 {
        latency.record(secs(5));
    }
    stop_after(secs(4)).await;
    assert_eq!(latency.samples(), 20);
    stop_after(secs(9)).await;
    assert_eq!(latency.samples(), 21);
    close(latency.percentile(percentile(1.0)), secs(9));
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    shared::<Latency>();
    shared::<RecordLatencyLayer>();
    shared::<RecordLatency<Mocked>>();
    let layer = RecordLatencyLayer::new(Latency::default(), Percentile::P95);
    let mut service = tower::Layer::layer(&layer, Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    assert_eq!(service.clone().into_inner().delay, secs(2));
}
