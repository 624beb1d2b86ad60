//! Messages that are slow, compressed, large or deep.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::{Body, Client};
use tower_dspy::testing::mock::{MockDspy, Reply};

use super::Node;

/// The gRPC status of a call with this body.
async fn status(
    node: &Node,
    headers: &[(&str, &str)],
    body: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> String {
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/tower_dspy.v1.Predict/Predict", node.address);
    let request = client
        .post(url)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::wrap_stream(body));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    let response = request.send().await.unwrap();
    response.headers()["grpc-status"]
        .to_str()
        .unwrap()
        .to_owned()
}

fn message(flag: u8, length: usize, bytes: &[u8]) -> Bytes {
    let length = u32::try_from(length).unwrap();
    [&[flag][..], &length.to_be_bytes(), bytes].concat().into()
}

fn once(message: Bytes) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::once(async { Ok(message) })
}

#[tokio::test]
async fn a_message_that_never_arrives_ends_at_the_deadline() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    let deadline = [("grpc-timeout", "100m")];
    assert_eq!(status(&node, &deadline, stream::pending()).await, "4");
    assert!(mock.calls().is_empty());
    assert_eq!(node.shutdown.in_flight(), 0);
}

#[tokio::test]
async fn a_compressed_message_is_refused() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    let encoding = [("grpc-encoding", "gzip")];
    let body = once(message(1, 3, b"\x1f\x8b\x08"));
    assert_eq!(status(&node, &encoding, body).await, "12");
    assert!(mock.calls().is_empty());
}

#[tokio::test]
async fn a_message_that_says_it_is_large_is_refused_before_it_has_come() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    let body = once(message(0, u32::MAX as usize, b""));
    assert_eq!(status(&node, &[], body).await, "11");
    assert!(mock.calls().is_empty());
}

/// A field of bytes, by its number.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut field).unwrap();
    field.extend(bytes);
    field
}

#[tokio::test]
async fn a_deep_message_is_refused() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    // A list in a list in a list.
    let value = (0..2000).fold(Vec::new(), |value, _| field(6, &field(1, &value)));
    let entry = [field(1, b"question"), field(2, &value)].concat();
    let inputs = field(1, &entry);
    let request = [field(1, b"qa"), field(2, &inputs)].concat();
    let body = once(message(0, request.len(), &request));
    assert_eq!(status(&node, &[], body).await, "13");
    assert!(mock.calls().is_empty());
}
