//! A prediction as a response.

use ::axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    call::{Cost, Usage},
    request::Prediction,
};

/// As JSON: the `outputs`, the tokens of all LM calls in `usage`, what they cost in USD in `cost`, how
/// many `lm_calls` there were (`lm_calls_bypassed` more went past the host), the time in `elapsed_ms`,
/// and `stale_age_ms` if it is an earlier answer that stands in. The LM calls one by one, which name models, are left out.
impl IntoResponse for Prediction {
    fn into_response(self) -> Response {
        Json(PredictionBody::of(self)).into_response()
    }
}

/// The JSON of a [`Prediction`].
#[derive(Serialize)]
pub(super) struct PredictionBody {
    outputs: Map<String, Value>,
    usage: Usage,
    cost: Cost,
    lm_calls: u64,
    lm_calls_bypassed: u32,
    elapsed_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_age_ms: Option<u128>,
}

impl PredictionBody {
    pub(super) fn of(prediction: Prediction) -> Self {
        let lm_calls = u64::try_from(prediction.lm_calls.len()).unwrap_or(u64::MAX);
        Self {
            usage: prediction.usage,
            cost: prediction.cost,
            lm_calls: lm_calls.saturating_add(prediction.lm_calls_not_kept.into()),
            lm_calls_bypassed: prediction.lm_calls_bypassed,
            elapsed_ms: prediction.elapsed.as_millis(),
            stale_age_ms: prediction.stale_age.map(|age| age.as_millis()),
            outputs: prediction.outputs,
        }
    }
}
