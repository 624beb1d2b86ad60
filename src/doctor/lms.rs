//! The checks of LMs: key, address, proxy, and on request an answer.

use std::time::Duration;

use serde_json::json;
use tower::ServiceExt;

use super::{check::Check, reach::reach};
use crate::{
    call::Deadline,
    error::{Classify, Error, ErrorKind},
    host::Host,
    lm::{
        Lm,
        inspection::{is_local, proxy_of},
    },
    request::PredictRequest,
    service::lm_probe::LmProbe,
};

/// The question of an LM that is asked.
const QUESTION: &str = "Reply with the word yes.";

/// The LMs that programs name, each member of a group by itself, each once.
pub(super) fn distinct<'a>(lms: impl IntoIterator<Item = &'a Lm>) -> Vec<Lm> {
    let mut found: Vec<Lm> = Vec::new();
    for lm in lms.into_iter().flat_map(Lm::each) {
        if found.iter().all(|known| !known.is_same(lm)) {
            found.push(lm.clone());
        }
    }
    found
}

/// Checks an LM's settings without a host.
pub(super) fn without_host(lm: &Lm) -> Check {
    match lm.problem() {
        Some(problem) => Check::wrong("LM", problem),
        None => Check::skipped(
            "LM",
            format_args!("`{}`: its key and address are found in Python", lm.name()),
        ),
    }
}

/// The checks of an LM, and the program that asks it, if its settings are right.
pub(super) async fn with_host(host: &Host, lm: &Lm) -> (Vec<Check>, Option<LmProbe>) {
    let probe = match host.probe(lm).await {
        Ok(probe) => probe,
        Err(error) => return (vec![Check::wrong("LM", error)], None),
    };
    let mut checks = vec![key(lm, &probe)];
    let address = probe.handle.as_ref().and_then(|handle| handle.address());
    match address {
        _ if lm.has_own_client() => checks.push(Check::skipped(
            "LM address",
            format_args!(
                "`{}` goes through a client of its own, `Lm::http`",
                lm.name()
            ),
        )),
        None => checks.push(Check::skipped(
            "LM address",
            format_args!(
                "`{}`: its library does not tell it before a request",
                lm.name()
            ),
        )),
        Some(address) => checks.extend(self::address(lm, &address).await),
    }
    (checks, Some(probe))
}

fn key(lm: &Lm, probe: &LmProbe) -> Check {
    let (name, source) = (lm.name(), lm.key_source());
    let doubt = probe
        .handle
        .as_ref()
        .and_then(|handle| handle.key_doubt(lm));
    let has_key = probe.handle.as_ref().is_some_and(|handle| handle.has_key());
    match doubt {
        Some(doubt) => Check::warning(
            "LM key",
            format_args!("the key of `{name}`, from {source}: {doubt}. Check how it was set"),
        ),
        None if has_key => Check::ok("LM key", format_args!("`{name}` has one, from {source}")),
        None => Check::ok(
            "LM key",
            format_args!("`{name}` has none of its own ({source})"),
        ),
    }
}

async fn address(lm: &Lm, address: &str) -> Vec<Check> {
    let name = lm.name();
    let proxy = proxy_of(address);
    let reached = reach(proxy.as_deref().unwrap_or(address)).await;
    let way = proxy
        .as_ref()
        .map(|proxy| format!(", through the proxy {proxy}"));
    let way = way.unwrap_or_default();
    let found = match reached {
        Ok(()) => Check::ok("LM address", format_args!("`{name}` is at {address}{way}")),
        Err(problem) => Check::warning(
            "LM address",
            format_args!(
                "`{name}` is at {address}{way}, which cannot be reached from here: {problem}. Is a \
                 server listening there? Check `Lm::base_url`, the network, and the proxy variables"
            ),
        ),
    };
    let mut checks = vec![found];
    if let Some(proxy) = proxy.filter(|_| is_local(address)) {
        checks.push(Check::warning(
            "LM address",
            format_args!(
                "requests to {address}, on this machine, go to the proxy {proxy}, which may not find \
                 it. Name it in NO_PROXY: NO_PROXY=localhost,127.0.0.1"
            ),
        ));
    }
    checks
}

/// Asks the LM, which the provider charges.
pub(super) async fn ask(lm: &Lm, probe: LmProbe, limit: Duration) -> Check {
    let address = probe.handle.as_ref().and_then(|handle| handle.address());
    let request = PredictRequest::new(json!({"question": QUESTION}));
    let request = request.with_deadline(Deadline::within(limit));
    let began = tokio::time::Instant::now();
    let answered = probe.service.oneshot(request).await;
    let took = began.elapsed();
    let name = lm.name();
    match answered {
        Ok(_) => Check::ok(
            "LM answer",
            format_args!("`{name}` answered in {} ms", took.as_millis()),
        ),
        Err(error) => {
            let at = address.as_deref().unwrap_or("its address");
            Check::wrong(
                "LM answer",
                format_args!("`{name}`: {}", with_remedy(&error, at)),
            )
        }
    }
}

/// The error, with what may help. For some statuses an `LmError` says that by itself.
fn with_remedy(error: &Error, at: &str) -> String {
    if let Error::Lm(lm) = error
        && lm.status().is_some()
        && let Some(advice) = lm.advice()
    {
        return format!("{}. {advice}", first_line(error, advice));
    }
    let remedy = match (error.kind(), error) {
        (ErrorKind::LmUnavailable, _) => format!("Is a server listening at {at}?"),
        (ErrorKind::Deadline, _) => format!("{at} did not answer; try again, or another LM"),
        _ => "Check the model's name and `Lm::base_url`".into(),
    };
    format!("{}. {remedy}", first_line(error, &remedy))
}

/// The problem alone: DSPy's message continues with advice for users of DSPy alone.
fn first_line(error: &Error, advice: &str) -> String {
    let error = error.to_string();
    let line = error.lines().next().unwrap_or_default();
    let line = line.strip_suffix(advice).unwrap_or(line);
    line.trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lm_is_checked_once_and_a_group_by_its_members() {
        let (a, b) = (Lm::new("openai/a").key("k"), Lm::new("openai/b").key("k"));
        let both = Lm::fallback([a.clone(), b.clone()]);
        let found = distinct([&a, &both, &a]);
        let names: Vec<_> = found.iter().map(Lm::name).collect();
        assert_eq!(names, ["openai/a", "openai/b"]);
    }

    #[test]
    fn without_a_host_only_a_mistake_in_the_settings_shows() {
        let check = without_host(&Lm::new("openai/a").key_env("TOWER_DSPY_NO_SUCH_VARIABLE"));
        assert_eq!(check.outcome(), crate::doctor::CheckOutcome::Wrong);
        assert!(
            check.text().contains("$TOWER_DSPY_NO_SUCH_VARIABLE"),
            "{check}"
        );
        let check = without_host(&Lm::new("openai/a").key("k"));
        assert_eq!(check.outcome(), crate::doctor::CheckOutcome::Skipped);
    }
}
