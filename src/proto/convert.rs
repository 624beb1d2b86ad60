//! A [`Prediction`] as a message, and back.

use std::time::Duration;

use super::{
    json::{StructError, from_struct, to_struct},
    v1,
};
use crate::{
    call::{Cost, Usage, Usd},
    request::Prediction,
};

pub(crate) fn to_response(prediction: &Prediction) -> Result<v1::PredictResponse, StructError> {
    let usage = prediction.usage;
    let lm_calls = u64::try_from(prediction.lm_calls.len()).unwrap_or(u64::MAX);
    Ok(v1::PredictResponse {
        outputs: Some(to_struct(&prediction.outputs)?),
        usage: Some(v1::Usage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
            cached_tokens: usage.cached_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }),
        cost: Some(v1::Cost {
            usd: prediction.cost.usd.as_f64(),
            estimated_usd: prediction.cost.estimated_usd.as_f64(),
            unknown_calls: prediction.cost.unknown_calls,
        }),
        lm_calls: lm_calls.saturating_add(prediction.lm_calls_not_kept.into()),
        lm_calls_bypassed: prediction.lm_calls_bypassed.into(),
        elapsed: prost_types::Duration::try_from(prediction.elapsed).ok(),
        stale_age: prediction
            .stale_age
            .and_then(|age| prost_types::Duration::try_from(age).ok()),
    })
}

/// The LM calls come as their number.
pub(crate) fn from_response(response: v1::PredictResponse) -> Result<Prediction, StructError> {
    let mut prediction = Prediction::new(from_struct(response.outputs.unwrap_or_default())?);
    if let Some(usage) = response.usage {
        prediction.usage = Usage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
            cached_tokens: usage.cached_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        };
    }
    if let Some(cost) = response.cost {
        prediction.cost = Cost {
            usd: Usd::new(cost.usd),
            estimated_usd: Usd::new(cost.estimated_usd),
            unknown_calls: cost.unknown_calls,
        };
    }
    let count = |calls| u32::try_from(calls).unwrap_or(u32::MAX);
    prediction.lm_calls_not_kept = count(response.lm_calls);
    prediction.lm_calls_bypassed = count(response.lm_calls_bypassed);
    let duration = |sent: Option<prost_types::Duration>| Duration::try_from(sent?).ok();
    prediction.elapsed = duration(response.elapsed).unwrap_or_default();
    prediction.stale_age = duration(response.stale_age);
    Ok(prediction)
}
