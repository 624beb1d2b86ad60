//! What tells a request for embeddings from an LM call.

use super::LmRequest;

/// An embedder of DSPy's makes the request; among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmbeddingRequest;

/// How the paths of LM calls end. An embedder that is a function may make them as well.
const OF_LM_CALLS: [&str; 6] = [
    "/completions",
    "/responses",
    "/messages",
    ":generateContent",
    ":streamGenerateContent",
    "/converse",
];

/// Whether a request asks for embeddings: an embedder makes it, to another path than that of an LM call;
/// or the last part of its path is an operation of that name, or `invoke` of a model of that name.
pub(super) fn asks_for_embeddings(request: &LmRequest) -> bool {
    let path = request.uri().path();
    if request.extensions().get::<EmbeddingRequest>().is_some() {
        return !OF_LM_CALLS.iter().any(|end| path.ends_with(end));
    }
    let mut parts = path.rsplit('/');
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
    fn embeddings_are_told_by_the_path_and_by_the_embedder() {
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
            let is_lm_call = path.ends_with("/chat/completions");
            assert_eq!(asks_for_embeddings(&request), !is_lm_call, "{path}");
        }
    }
}
