//! The order of the checks: each stands on those before it.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{
    check::Check,
    diagnosis::Diagnosis,
    lms, process,
    python::{self, About},
    settings::{Doctor, HostUnderTest, ProgramUnderTest},
};
use crate::{
    host::{
        Host,
        env::{EnvError, LinkedPython},
        start_error::StartError,
    },
    lm::Lm,
    service::{Load, MAX_IN_FLIGHT},
};

impl Doctor {
    /// Makes the checks. The host that was started for them runs on: see [`Diagnosis::host`].
    ///
    /// It takes as long as the start of the host and the loading of its programs, and for each LM up
    /// to 5 seconds to connect.
    ///
    /// # Cancel safety
    /// Dropping the future ends the checks; what has been started by then may go on, as with the
    /// start of a host.
    pub async fn run(self) -> Diagnosis {
        let mut diagnosis = Diagnosis::default();
        let linked = self.linked();
        diagnosis.extend(process::environment(linked.is_some()));
        diagnosis.push(process::runtime());
        let lms = self.named_lms();
        match self.host {
            None => {
                diagnosis.push(Check::skipped("host", "the doctor was given none"));
                without_host(&mut diagnosis, &lms, self.programs.len());
            }
            Some(host) => match started(host).await {
                Err(error) => {
                    diagnosis.extend(python::of_failed_start(&error));
                    without_host(&mut diagnosis, &lms, self.programs.len());
                }
                Ok(host) => {
                    diagnosis.set_host(host.clone());
                    let linked = linked.and_then(Result::ok);
                    match About::of(&host).await {
                        Ok(about) => {
                            let venv = python::venv_of(&about).await;
                            let checks = python::of_running(&host, &about, venv, linked.as_ref());
                            diagnosis.extend(checks);
                            diagnosis.extend(python::of_programs_folders(&about));
                        }
                        Err(error) => diagnosis.push(Check::wrong("host", error)),
                    }
                    let loads = self.programs.into_iter().map(|program| program.load(&host));
                    let loads = loads.collect();
                    with_host(&mut diagnosis, &host, loads, self.answer_limit).await;
                }
            },
        }
        diagnosis
    }

    /// The Python of the build, if the host runs in this process.
    fn linked(&self) -> Option<Result<LinkedPython, EnvError>> {
        match &self.host {
            #[cfg(feature = "python")]
            Some(HostUnderTest::Embedded(_)) => Some(LinkedPython::build_time()),
            _ => None,
        }
    }

    /// The LMs that are known before there is a host.
    fn named_lms(&self) -> Vec<Lm> {
        let named = self.programs.iter().filter_map(|program| match program {
            ProgramUnderTest::Named { lm, .. } => lm.as_deref(),
            ProgramUnderTest::Load(_) => None,
        });
        lms::distinct(named)
    }
}

impl ProgramUnderTest {
    fn load(self, host: &Host) -> Load {
        match self {
            Self::Named { target, lm: None } => host.load(target),
            Self::Named {
                target,
                lm: Some(lm),
            } => host.load(target).lm(*lm),
            Self::Load(load) => load(host),
        }
    }
}

async fn started(host: HostUnderTest) -> Result<Host, StartError> {
    match host {
        #[cfg(feature = "python")]
        HostUnderTest::Embedded(settings) => settings.start().await,
        #[cfg(feature = "workers")]
        HostUnderTest::Workers(settings) => settings.start().await,
        HostUnderTest::Started(host) => Ok(host),
    }
}

async fn program(load: Load) -> Check {
    let target = load.target().to_owned();
    match load.await {
        Ok(service) => {
            let inputs = service.schema().inputs.iter();
            let inputs: Vec<_> = inputs.map(|field| field.name.as_str()).collect();
            Check::ok(
                "program",
                format_args!("`{target}` is loaded; its inputs: {}", inputs.join(", ")),
            )
        }
        Err(error) => Check::wrong("program", format_args!("{error}\n{}", error.traceback())),
    }
}

/// What can be checked of LMs and programs when there is no host.
fn without_host(diagnosis: &mut Diagnosis, lms: &[Lm], programs: usize) {
    diagnosis.extend(lms.iter().map(lms::without_host));
    if programs > 0 {
        diagnosis.push(Check::skipped("program", "it is loaded by the host"));
    }
    diagnosis.push(process::open_files(programs.saturating_mul(MAX_IN_FLIGHT)));
}

async fn with_host(
    diagnosis: &mut Diagnosis,
    host: &Host,
    loads: Vec<Load>,
    answer_limit: Option<Duration>,
) {
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for lm in lms::distinct(loads.iter().flat_map(Load::all_lms)) {
        let (checks, probe) = lms::with_host(host, &lm).await;
        diagnosis.extend(checks);
        match probe {
            Some(probe) => usable.push((lm, probe)),
            None => unusable.push(lm),
        }
    }
    let mut in_flight = 0_usize;
    for load in loads {
        in_flight = in_flight.saturating_add(load.most_in_flight());
        let own = lms::distinct(load.all_lms());
        let is_usable = !own
            .iter()
            .any(|lm| unusable.iter().any(|other| other.is_same(lm)));
        diagnosis.push(match is_usable {
            true => program(load).await,
            false => Check::skipped(
                "program",
                format_args!("`{}`: its LM is wrong", load.target()),
            ),
        });
    }
    diagnosis.push(process::open_files(in_flight));
    diagnosis.push(process::memory());
    // A limit needs the timer of a runtime.
    let Some(limit) = answer_limit.filter(|_| Handle::try_current().is_ok()) else {
        return;
    };
    for (lm, probe) in usable {
        diagnosis.push(lms::ask(&lm, probe, limit).await);
    }
}
