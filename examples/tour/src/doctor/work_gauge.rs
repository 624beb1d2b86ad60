//! The gauges by which model servers tell how many requests they work on.
//!
//! | server | where | what |
//! |---|---|---|
//! | SGLang | `/get_load` | `num_reqs` of each rank |
//! | llama.cpp | `/slots` | slots with `is_processing` |
//! | vLLM | `/metrics` | `vllm:num_requests_running` and `vllm:num_requests_waiting` |
//! | SGLang with `--enable-metrics` | `/metrics` | `sglang:num_running_reqs` and `sglang:num_queue_reqs` |
//! | llama.cpp with `--metrics` | `/metrics` | `llamacpp:requests_processing` and `llamacpp:requests_deferred` |

use std::fmt;

use serde_json::Value;

use super::chat::ChatClient;

/// The gauges of `/metrics`.
const METRICS: [[&str; 2]; 3] = [
    ["vllm:num_requests_running", "vllm:num_requests_waiting"],
    ["sglang:num_running_reqs", "sglang:num_queue_reqs"],
    ["llamacpp:requests_processing", "llamacpp:requests_deferred"],
];

/// A gauge that a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkGauge {
    Load,
    Slots,
    Metrics([&'static str; 2]),
}

impl WorkGauge {
    /// The first gauge that the server has.
    pub(super) async fn find(server: &ChatClient) -> Option<Self> {
        let metrics = METRICS.map(Self::Metrics);
        for gauge in [Self::Load, Self::Slots].into_iter().chain(metrics) {
            if gauge.read(server).await.is_some() {
                return Some(gauge);
            }
        }
        None
    }

    /// How many requests the server works on, those that wait included.
    pub(super) async fn read(self, server: &ChatClient) -> Option<u64> {
        let text = server.get(self.path()).await?;
        match self {
            Self::Load => {
                let ranks: Vec<Value> = serde_json::from_str(&text).ok()?;
                ranks
                    .iter()
                    .map(|rank| rank.get("num_reqs")?.as_u64())
                    .sum()
            }
            Self::Slots => {
                let slots: Vec<Value> = serde_json::from_str(&text).ok()?;
                let busy = slots
                    .iter()
                    .map(|slot| slot.get("is_processing")?.as_bool());
                busy.map(|busy| busy.map(u64::from)).sum()
            }
            Self::Metrics([running, waiting]) => {
                Some(metric(&text, running)? + metric(&text, waiting).unwrap_or_default())
            }
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Load => "/get_load",
            Self::Slots => "/slots",
            Self::Metrics(_) => "/metrics",
        }
    }
}

impl fmt::Display for WorkGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load | Self::Slots => write!(f, "by {}", self.path()),
            Self::Metrics([running, _]) => write!(f, "by {running} of {}", self.path()),
        }
    }
}

/// The sum of a metric's series in the text format of Prometheus; `None` without one.
fn metric(text: &str, name: &str) -> Option<u64> {
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            // The value of a label may have spaces and braces.
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
        Some(value as u64)
    });
    series.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_metric_are_added() {
        let text = "# HELP vllm:num_requests_running Number of requests.\n\
            # TYPE vllm:num_requests_running gauge\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 2.0\n\
            vllm:num_requests_running{engine=\"1\"} 1.0 1700000000\n\
            vllm:num_requests_running_total 9\n\
            llamacpp:requests_processing 1\n";
        assert_eq!(metric(text, "vllm:num_requests_running"), Some(3));
        assert_eq!(metric(text, "llamacpp:requests_processing"), Some(1));
        assert_eq!(metric(text, "sglang:num_running_reqs"), None);
    }
}
