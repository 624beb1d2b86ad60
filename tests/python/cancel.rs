use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{PredictRequest, testing::scripted_lm::Reply};

use crate::support::{host, lm, lm_server};

#[tokio::test]
async fn an_answer_arrives() {
    let server = lm_server().await;
    server.script("answer", Reply::answer("Paris"));
    let qa = host()
        .await
        .load("question -> answer")
        .lm(lm("answer").await)
        .await
        .unwrap();
    let answer = qa
        .oneshot(PredictRequest::new(json!({"question": "capital?"})))
        .await
        .unwrap();
    assert_eq!(answer.get("answer"), Some(&json!("Paris")));
    assert_eq!(answer.lm_calls, 1);
    assert!(answer.usage.total_tokens > 0);
}
