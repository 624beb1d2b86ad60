//! The run: a calm stretch, after which the baseline is read, the chaos, and the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    books::{Books, SiteBooks},
    clients::Callers,
    disruptions::{self, Disruptions},
    left::Left,
    options::Options,
    outcomes::Outcomes,
    processes::waiting_processes,
    site::Site,
    support::{LmProcess, read_process},
};

/// Callers of each host.
const CALLERS: usize = 20;
/// So few that calls end within the limits of the layers also on a machine that has other work.
const CALM_CALLERS: usize = 4;
const CALM: Duration = Duration::from_secs(15);
/// How long what has ended may take until nothing of it is left.
const SETTLES: Duration = Duration::from_secs(60);

pub(crate) async fn run(options: &Options) -> Books {
    let mut lm = LmProcess::start(&["--lm-server", &options.seed.to_string()])
        .await
        .expect("an LM server");
    let sites = [
        Site::embedded(&lm.base_url, options.inject).await,
        Site::workers(&lm.base_url, options.inject).await,
    ];
    let outcomes = [Arc::<Outcomes>::default(), Arc::<Outcomes>::default()];

    for site in &sites {
        site.warm_up().await;
    }
    // Threads, caches and pools come to their size.
    calls(&sites, &outcomes, options.seed, CALM, true).await;
    let baseline = settled(&sites, &mut lm, None).await;
    println!("before: {baseline:?}");

    lm.order("faults").await.expect("the LM");
    let (disruptions, rss) =
        calls(&sites, &outcomes, options.seed + 1, options.length, false).await;
    let lm_reading = lm.order("calm").await.expect("the LM");
    let left = settled(&sites, &mut lm, Some(&baseline)).await;
    println!("after:  {left:?}");

    let mut books = Books {
        baseline,
        left,
        rss,
        disruptions,
        lm: lm_reading,
        sites: vec![],
        after_stop: Left::default(),
    };
    for (site, outcomes) in sites.into_iter().zip(&outcomes) {
        books
            .sites
            .push(SiteBooks::end(site, outcomes.read()).await);
    }
    books.after_stop = stopped(&mut lm).await;
    for pid in waiting_processes() {
        let kill = Command::new("kill").arg(pid.to_string()).status().await;
        println!("a program's `sleep` of an hour is left: {pid}, ended: {kill:?}");
    }
    println!("when the hosts have stopped: {:?}", books.after_stop);
    books
}

/// Has callers call for so long, and with chaos the hosts disrupted; returns what was done, and the
/// memory of this process in KiB, second by second.
async fn calls(
    sites: &[Site; 2],
    outcomes: &[Arc<Outcomes>; 2],
    seed: u64,
    length: Duration,
    calm: bool,
) -> (Disruptions, Vec<f64>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for (site, outcomes) in sites.iter().zip(outcomes) {
        let shared = Arc::new(Callers::new(site, outcomes, calm));
        for _ in 0..if calm { CALM_CALLERS } else { CALLERS } {
            let (shared, stop, random) = (shared.clone(), stop.clone(), random.fork());
            callers.spawn(async move { shared.drive(random, &stop).await });
        }
    }
    let [embedded, workers] = sites;
    let forks = [random.fork(), random.fork(), random.fork()];
    let disrupt = async {
        if calm {
            return Disruptions::default();
        }
        let [kill, replace, load] = forks;
        let (kills, (replaced, not_replaced), (loaded, not_loaded)) = tokio::join!(
            disruptions::kill(workers, kill, &stop),
            disruptions::replace(workers, replace, &stop),
            disruptions::load(embedded, load, &stop),
        );
        Disruptions {
            kills,
            replaced,
            not_replaced,
            loaded,
            not_loaded,
        }
    };
    let measure = async {
        let (end, mut rss) = (Instant::now() + length, vec![]);
        while Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
            rss.push(read_process("self").map_or(f64::NAN, |read| read.rss_kib as f64));
        }
        stop.store(true, Ordering::Relaxed);
        rss
    };
    let (disruptions, rss) = tokio::join!(disrupt, measure);
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller");
    }
    (disruptions, rss)
}

/// What is left once it is no more than the baseline, or when the time for that is over.
async fn settled(sites: &[Site; 2], lm: &mut LmProcess, baseline: Option<&Left>) -> Left {
    let end = Instant::now() + SETTLES;
    // Threads for blocking tasks end after ten idle seconds.
    sleep(Duration::from_secs(11)).await;
    loop {
        let left = Left::of(sites, lm).await;
        let done = baseline.map_or(left.work == 0, |baseline| left.is_within(baseline));
        if done || Instant::now() > end {
            return left;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// What is left once the hosts have stopped: nothing, or what there is after ten seconds.
async fn stopped(lm: &mut LmProcess) -> Left {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = Left::of_process(lm).await;
        if left.of_stopped_hosts() == 0 || Instant::now() > end {
            return left;
        }
        sleep(Duration::from_millis(100)).await;
    }
}
