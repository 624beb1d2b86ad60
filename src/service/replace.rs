//! The replacement of a program while it serves.

use super::{DspyService, Load, LoadError, LoadErrorKind};

impl DspyService {
    /// Serves what `load` loads in place of this program, from its code and state as they are on
    /// disk now (feature `workers`). That holds for all clones of this service, in whatever layers they are.
    ///
    /// New worker processes load it, and all other programs of the host with it. When all of them
    /// have, they take over in one step: calls from then on, and those that still wait for their
    /// start, are theirs. Calls that have started end where they are, and the old workers with
    /// them. No call is lost, and none meets a worker that is still loading. Until the old workers
    /// have ended there are up to twice as many processes.
    ///
    /// What the service promises stays: its `max_in_flight` and `max_waiting`, and its schema. The
    /// names of the LMs that requests may choose are those of `load`. One replacement on a host
    /// waits for another.
    ///
    /// ```no_run
    /// use tower::ServiceBuilder;
    /// use tower_dspy::{DeadlineLayer, Host, Lm};
    ///
    /// # async fn example(lm: Lm) -> Result<(), Box<dyn std::error::Error>> {
    /// let host = Host::workers(2).start().await?;
    /// let qa = host.load("my_pkg.qa:Program").lm(lm.clone()).await?;
    /// let app = ServiceBuilder::new()
    ///     .layer(DeadlineLayer::new(std::time::Duration::from_secs(10)))
    ///     .service(qa.clone());
    /// // The optimizer has found a better state: `app` serves it from now on.
    /// qa.replace(host.load("my_pkg.qa:Program").lm(lm).state("better.json"))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As loading has them, of this program or another one; if the program has other inputs or
    /// outputs than before. At once, and with nothing loaded, if `load` is of another host, or the host
    /// is [embedded](crate::Host::embedded): an interpreter imports a module once. The program serves
    /// on as it was.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the program as it was, if the new workers have not taken over.
    pub async fn replace(&self, load: Load) -> Result<(), LoadError> {
        let program = &*self.program;
        if !program.host.is(&load.host) {
            let problem = "it is to replace a program of another host";
            return Err(load.fail(LoadErrorKind::Replacement, problem));
        }
        let (spec, registrations) = load.to_spec()?;
        let (taken, by) = (self.program.clone(), load.clone());
        let taken_over = move |registrations| taken.replaced(by.served(registrations));
        let replaced = program
            .host
            .replace(program.loaded.id, spec, registrations, taken_over)
            .await;
        load.answered(replaced.map_err(|problem| load.fail(LoadErrorKind::Replacement, problem))?)
    }
}
