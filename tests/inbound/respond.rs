//! The table of statuses.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer, de::Visitor, forward_to_deserialize_any};
use serde_json::json;
use tower::BoxError;
use tower_dspy::{
    Budget, BudgetExceeded, BudgetLimits, Classify, Error, ErrorKind, InvalidInput, LmError,
    ProgramError,
    deadline::{GrpcTimeout, RequestTimeout},
    inbound::{
        Protocol,
        respond::{ErrorResponse, GrpcCode},
    },
    testing::error_of,
};

use super::support::{body, header, json};

/// What each kind is outwards.
const TABLE: [(ErrorKind, u16, GrpcCode); 12] = [
    (ErrorKind::Elapsed, 504, GrpcCode::DeadlineExceeded),
    (ErrorKind::Deadline, 504, GrpcCode::DeadlineExceeded),
    (ErrorKind::Cancelled, 499, GrpcCode::Cancelled),
    (ErrorKind::ShuttingDown, 503, GrpcCode::Unavailable),
    (ErrorKind::Overloaded, 503, GrpcCode::ResourceExhausted),
    (ErrorKind::InvalidInput, 422, GrpcCode::InvalidArgument),
    (ErrorKind::Program, 500, GrpcCode::Unknown),
    (ErrorKind::LmUnavailable, 503, GrpcCode::Unavailable),
    (ErrorKind::LmRejected, 502, GrpcCode::Internal),
    (ErrorKind::BudgetExceeded, 402, GrpcCode::ResourceExhausted),
    (ErrorKind::Lost, 503, GrpcCode::Unavailable),
    (ErrorKind::Other, 500, GrpcCode::Unknown),
];

/// Reads the names of an enum's variants, which its derived `Deserialize` hands over.
struct Variants<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Variants<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("only enums have variants"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = variants;
        Err(serde::de::Error::custom("read"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[test]
fn every_error_kind_has_a_row_in_the_table() {
    let mut names: &'static [&'static str] = &[];
    assert!(ErrorKind::deserialize(Variants(&mut names)).is_err());
    let kinds = names.iter().map(|name| {
        let kind: ErrorKind = serde_json::from_value(json!(name)).unwrap();
        kind
    });
    let kinds: Vec<_> = kinds.collect();
    let rows: Vec<_> = TABLE.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, rows);
}

#[test]
fn each_error_kind_has_the_status_of_the_table() {
    for (kind, status, code) in TABLE {
        let response = ErrorResponse::of_kind(kind);
        assert_eq!(response.kind(), kind);
        assert_eq!(response.status().as_u16(), status, "{kind:?}");
        assert_eq!(response.grpc_code(), code, "{kind:?}");
        assert!(!response.detail().is_empty());

        let Some(error) = error_of(kind) else {
            continue;
        };
        let of_error = ErrorResponse::of(error);
        assert_eq!(of_error.status(), response.status(), "{kind:?}");
        assert_eq!(of_error.grpc_code(), code, "{kind:?}");
    }
}

/// The table in the documentation is this one.
#[test]
fn the_documented_table_is_the_one_in_force() {
    let source = include_str!("../../src/inbound/respond/mod.rs");
    for (kind, status, code) in TABLE {
        let name = format!("`{kind:?}`");
        let row = source
            .lines()
            .find(|line| line.starts_with("//! | `") && line.contains(&name))
            .unwrap_or_else(|| panic!("no row for {kind:?}"));
        assert!(row.contains(&format!("| {status} ")), "{row}");
        let words = format!("{code:?}");
        let told = row.rsplit('`').nth(1).unwrap().replace('_', "");
        assert!(told.eq_ignore_ascii_case(&words), "{row}: {words}");
    }
}

#[tokio::test]
async fn invalid_inputs_are_described_in_the_answer() {
    let input = || InvalidInput::new("qa", Some("question"), "`question` is missing", "a string");
    let errors: [BoxError; 3] = [
        Box::new(input()),
        Box::new(Error::from(input())),
        Box::new(Wrapped(Box::new(Error::from(input())))),
    ];
    for error in errors {
        let response = ErrorResponse::of(error).into_http();
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let content = header(response.headers(), "content-type");
        assert_eq!(content, Some("application/problem+json"));
        assert_eq!(
            json(response).await,
            json!({
                "title": "Unprocessable Content",
                "status": 422,
                "detail": "`question` is missing; `qa` expects a string",
                "kind": "invalid_input",
                "field": "question",
            })
        );
    }
}

#[derive(Debug, thiserror::Error)]
#[error("wrapped: {0}")]
struct Wrapped(#[source] BoxError);

#[tokio::test]
async fn messages_of_the_program_and_the_lm_do_not_leave_the_server() {
    let secret = "the prompt";
    let errors: [BoxError; 4] = [
        Error::from(ProgramError::new("ValueError", secret, secret)).into(),
        Error::from(LmError::new("LMServerError", secret, Some(500), None)).into(),
        Error::from(LmError::new("LMAuthError", secret, Some(401), None)).into(),
        secret.into(),
    ];
    for error in errors {
        let response = ErrorResponse::of(error);
        let told = body(response.clone().into_http()).await;
        assert!(!String::from_utf8_lossy(&told).contains(secret));
        let grpc = response.into_grpc();
        assert!(!format!("{:?}", grpc.headers()).contains(secret));
    }
}

#[test]
fn retry_after_is_sent_in_whole_seconds_rounded_up() {
    for (wait, told) in [(0, "0"), (1, "1"), (1_000, "1"), (1_001, "2")] {
        let wait = Some(Duration::from_millis(wait));
        let error = Error::from(LmError::new("LMRateLimitError", "", Some(429), wait));
        let response = ErrorResponse::of(error);
        assert_eq!(response.retry_after(), wait);
        assert_eq!(
            header(response.into_http().headers(), "retry-after"),
            Some(told)
        );
    }
    let silent = ErrorResponse::of_kind(ErrorKind::LmUnavailable).into_http();
    assert_eq!(header(silent.headers(), "retry-after"), None);
}

/// A budget for good is not free again; one with a window is.
#[test]
fn a_budget_with_a_window_is_too_many_requests_with_the_time_to_wait() {
    let budget = Budget::new(BudgetLimits::new().with_tokens(0));
    let wait = Duration::from_millis(1500);
    let exceeded = BudgetExceeded::new(&budget);
    let response = ErrorResponse::of(Error::from(exceeded.clone())).into_http();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(header(response.headers(), "retry-after"), None);
    let error = Error::from(exceeded.with_retry_after(wait));
    let response = ErrorResponse::of(error);
    assert_eq!(response.grpc_code(), GrpcCode::ResourceExhausted);
    let response = response.into_http();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(response.headers(), "retry-after"), Some("2"));
}

#[tokio::test]
async fn an_unreadable_timeout_is_a_bad_request_that_names_the_expected_form() {
    let refusals = [
        "12s".parse::<GrpcTimeout>().unwrap_err(),
        "soon".parse::<RequestTimeout>().unwrap_err(),
    ];
    for refused in refusals {
        let expected = refused.expected();
        let response = ErrorResponse::of(refused);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.grpc_code(), GrpcCode::InvalidArgument);
        let problem = json(response.into_http()).await;
        assert!(problem["detail"].as_str().unwrap().contains(expected));
    }
}

#[tokio::test]
async fn a_grpc_error_is_answered_in_the_headers_alone() {
    let input = InvalidInput::new("qa", None, "50% of `größe`\nis missing", "a string");
    let response = ErrorResponse::of(Error::from(input)).into_grpc();
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(header(headers, "content-type"), Some("application/grpc"));
    assert_eq!(header(headers, "grpc-status"), Some("3"));
    assert_eq!(
        header(headers, "grpc-message"),
        Some("50%25 of `gr%C3%B6%C3%9Fe`%0Ais missing; `qa` expects a string")
    );
    assert!(body(response).await.is_empty());
}

#[test]
fn grpc_is_recognised_by_its_content_type() {
    let of = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(value));
        Protocol::of(&headers)
    };
    for value in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;x=y",
    ] {
        assert_eq!(of(value), Protocol::Grpc, "{value}");
    }
    for value in [
        "application/grpc-web",
        "application/json",
        "text/application/grpc",
        "",
    ] {
        assert_eq!(of(value), Protocol::Http, "{value}");
    }
    assert_eq!(Protocol::of(&HeaderMap::new()), Protocol::Http);
}

/// As the error of a handler, and seen by a layer around it.
#[test]
fn a_tonic_status_has_the_code_of_the_table_and_keeps_its_source() {
    for (kind, _, code) in TABLE {
        let Some(error) = error_of(kind) else {
            continue;
        };
        let status = tonic::Status::from(error);
        assert_eq!(status.code() as i32, code as i32, "{kind:?}");
        assert_eq!(status.kind(), kind);
    }
    let input = InvalidInput::new("qa", None, "there is none", "a string");
    let status = tonic::Status::from(Error::from(input));
    assert_eq!(status.message(), "there is none; `qa` expects a string");
    let program = ProgramError::new("ValueError", "the prompt", "");
    let status = tonic::Status::from(Error::from(program));
    assert_eq!(status.message(), "the program failed");
}
