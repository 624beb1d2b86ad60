//! What tells a request for embeddings from an LM call.

use super::LmRequest;

/// A request is for embeddings, among its extensions: it is made by an embedder of DSPy's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmbeddingRequest;

/// Whether a request asks for embeddings: by its extension, or by its path, whose last part is an
/// operation of that name, or `invoke` of a model of that name.
pub(super) fn asks_for_embeddings(request: &LmRequest) -> bool {
    if request.extensions().get::<EmbeddingRequest>().is_some() {
        return true;
    }
    let mut parts = request.uri().path().rsplit('/');
    let operation = match parts.next() {
        // Amazon's name of the operation is the same for all models.
        Some("invoke") => parts.next(),
        operation => operation,
    };
    operation.is_some_and(|name| name.to_ascii_lowercase().contains("embed"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn embeddings_are_told_by_the_path_or_by_who_asks() {
        let request = |path: &str| {
            let request = http::Request::post(format!("http://lm.test{path}"));
            request.body(Bytes::new()).expect("a request")
        };
        for (path, expected) in [
            ("/v1/embeddings", true),
            ("/v1beta/models/x:embedContent", true),
            ("/v1beta/models/x:batchEmbedContents", true),
            ("/models/text-embedding-005:predict", true),
            ("/api/embed", true),
            ("/v2/embed", true),
            ("/20231130/actions/embedText", true),
            ("/model/amazon.titan-embed-text-v2:0/invoke", true),
            ("/model/anthropic.claude/invoke", false),
            ("/openai/deployments/embedded/chat/completions", false),
            ("/v1/chat/completions", false),
            ("/endpoints/x/invocations", false),
        ] {
            let mut request = request(path);
            assert_eq!(asks_for_embeddings(&request), expected, "{path}");
            request.extensions_mut().insert(EmbeddingRequest);
            assert!(asks_for_embeddings(&request));
        }
    }
}
