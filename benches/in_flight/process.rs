//! What the system says of this process.

use std::{collections::BTreeMap, fs, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open descriptors, as far as the system lets it.
pub(crate) fn allow_descriptors(needed: usize) {
    let limits = getrlimit(Resource::Nofile);
    let needed = needed as u64;
    if limits.current.is_some_and(|current| current < needed) {
        let current = Some(needed);
        let raised = setrlimit(Resource::Nofile, Rlimit { current, ..limits });
        raised.unwrap_or_else(|error| panic!("{needed} descriptors are needed: {error}"));
    }
}

/// The resident memory of this process, in KiB.
pub(crate) fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("its status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = rss.and_then(|rss| rss.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse().ok()).expect("its memory")
}

/// The time on a processor of the threads of this process, by their names.
pub(crate) struct CpuTimes(BTreeMap<String, Duration>);

impl CpuTimes {
    pub(crate) fn now() -> Self {
        let mut times = BTreeMap::<_, Duration>::new();
        for thread in fs::read_dir("/proc/self/task")
            .expect("its threads")
            .flatten()
        {
            let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let schedstat = read("schedstat");
            let nanos = schedstat
                .split(' ')
                .next()
                .and_then(|nanos| nanos.parse().ok());
            let time = Duration::from_nanos(nanos.unwrap_or_default());
            *times.entry(read("comm").trim().to_owned()).or_default() += time;
        }
        Self(times)
    }

    /// The time of each since then, those with none left out.
    pub(crate) fn elapsed(&self) -> impl Iterator<Item = (String, Duration)> {
        let now = Self::now().0.into_iter();
        let elapsed = now.map(|(name, time)| {
            let before = self.0.get(&name).copied().unwrap_or_default();
            (name, time.saturating_sub(before))
        });
        elapsed.filter(|(_, time)| !time.is_zero())
    }
}
