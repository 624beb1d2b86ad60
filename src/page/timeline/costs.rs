//! What a call cost, in sentences.

use super::{
    format::{count, thousands, usd},
    lm_rows::lm_calls_in_order,
    selection::{MostRows, shown},
    story_lm::numbered,
};
use crate::call::{
    LmCall, Usd,
    record::timeline::{CallTimeline, LmCallTimeline},
};

/// A sentence for each LM call that has tokens, the first and the last of many, and one for their sum.
pub(super) fn costs(call: &CallTimeline) -> Vec<String> {
    let lm_calls = lm_calls_in_order(call);
    if lm_calls.is_empty() && call.lm_calls_not_kept == 0 {
        return Vec::new();
    }
    let total = lm_calls.len();
    let (first, last) = shown(total, MostRows::PICTURE.lm_calls);
    let shown = |at: usize| at < first || at >= total - last;
    let each = lm_calls.iter().enumerate().filter(|(at, _)| shown(*at));
    let mut lines: Vec<_> = each.filter_map(|(at, lm)| lm_cost(at, lm)).collect();
    lines.push(sum(call));
    lines
}

fn lm_cost(at: usize, lm: &LmCallTimeline) -> Option<String> {
    let call = &lm.call;
    let of = |tokens: Option<u64>, what: &str| {
        let tokens = tokens.filter(|tokens| *tokens > 0)?;
        Some(format!("{} {what}", thousands(tokens)))
    };
    let known = call.prompt_tokens.is_some() || call.completion_tokens.is_some();
    let total = call.total_tokens.filter(|_| !known);
    let parts = [
        call.prompt_tokens
            .map(|tokens| format!("{} tokens in", thousands(tokens))),
        of(call.cached_tokens, "of them cached"),
        of(call.cache_write_tokens, "written to the cache"),
        call.completion_tokens
            .map(|tokens| format!("{} out", thousands(tokens))),
        of(call.reasoning_tokens, "of reasoning"),
        total.map(|tokens| count(tokens, "token")),
        call.cost.filter(|cost| *cost > Usd::ZERO).map(usd),
        estimate(call),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{}: {}", numbered(at, lm), parts.join(", ")))
}

/// The tokens that the provider did not count.
fn estimate(call: &LmCall) -> Option<String> {
    if call.estimated_tokens == 0 {
        return None;
    }
    let tokens = thousands(call.estimated_tokens);
    let cost = call.estimated_cost.filter(|cost| *cost > Usd::ZERO);
    let cost = cost.map(|cost| format!(", for {}", usd(cost)));
    let cost = cost.unwrap_or_default();
    Some(format!(
        "an estimate of {tokens} tokens that the provider did not count{cost}"
    ))
}

fn sum(call: &CallTimeline) -> String {
    let lm_calls = call.lm_calls.len() as u64 + call.lm_calls_not_kept;
    let mut parts = vec![count(call.usage.total_tokens, "token")];
    if call.usage.cached_tokens > 0 {
        parts.push(format!("{} cached", thousands(call.usage.cached_tokens)));
    }
    if call.wasted_tokens > 0 {
        let wasted = thousands(call.wasted_tokens);
        parts.push(format!("{wasted} wasted on attempts without an answer"));
    }
    if call.late_tokens > 0 {
        let late = thousands(call.late_tokens);
        parts.push(format!(
            "and {late} that came after the end of their attempt"
        ));
    }
    let cost = call.cost;
    if cost.usd > Usd::ZERO {
        parts.push(usd(cost.usd));
    }
    if cost.estimated_usd > Usd::ZERO {
        let estimated = usd(cost.estimated_usd);
        parts.push(format!(
            "an estimate of {estimated} for tokens that the provider did not count"
        ));
    }
    if cost.unknown_calls > 0 {
        let unknown = count(cost.unknown_calls, "LM call");
        parts.push(format!("the cost of {unknown} is unknown"));
    }
    format!("{}: {}", count(lm_calls, "LM call"), parts.join(", "))
}
