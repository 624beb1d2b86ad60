//! The bodies of failures, in each dialect.

use serde_json::{Value, json};

use super::Dialect;

pub(super) fn failure(dialect: Dialect, status: u16) -> Value {
    let message = format!("scripted failure {status}");
    match dialect {
        Dialect::Anthropic => json!({
            "type": "error", "error": {"type": anthropic_error(status), "message": message},
        }),
        Dialect::Gemini => json!({
            "error": {"code": status, "message": message, "status": "UNKNOWN"},
        }),
        Dialect::BedrockConverse => json!({"message": message}),
        Dialect::OllamaChat | Dialect::OllamaGenerate | Dialect::OllamaEmbed => {
            json!({"error": message})
        }
        _ => json!({
            "error": {"message": message, "type": "scripted", "param": null, "code": null},
        }),
    }
}

const fn anthropic_error(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}
