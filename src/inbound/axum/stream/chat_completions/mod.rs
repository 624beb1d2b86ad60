//! [`chat_completions`]: programs as models of OpenAI's chat API.

mod answer;
mod chunk;
mod error;
mod programs;
mod request;
mod usage;
mod writer;

use std::sync::Arc;

use ::axum::{
    Json, Router,
    extract::{Path, Request},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;
use tower::ServiceExt;

pub use self::programs::ChatPrograms;
use self::{
    answer::completion, error::OpenAiError, programs::ChatProgram, request::ChatCompletionRequest,
    writer::ChatCompletionWriter,
};
use super::{event_stream::respond, options::StreamOptions};
use crate::inbound::axum::asker::Asker;

/// The routes of OpenAI's chat API, for which programs are models: `POST /v1/chat/completions`,
/// streamed and whole, `GET /v1/models` and `GET /v1/models/{model}`.
///
/// Clients of that API are given the URL of this server with `/v1` as their base URL.
///
/// ```
/// use std::time::Duration;
/// use axum::Router;
/// use futures_util::stream;
/// use tower::service_fn;
/// use tower_dspy::{
///     Error, InboundLayer, PredictRequest, Prediction, PredictionStream, StreamEvent,
///     inbound::axum::stream::{ChatFields, ChatPrograms, chat_completions},
/// };
///
/// // In place of a program `qa` and `qa.streaming()`.
/// let whole = service_fn(|_: PredictRequest| async { Ok::<_, Error>(Prediction::default()) });
/// let streaming = service_fn(|_: PredictRequest| async {
///     let done = StreamEvent::Done(Box::default());
///     Ok::<_, Error>(PredictionStream::new(stream::iter([Ok(done)])))
/// });
/// let fields = ChatFields::new("question", "answer").history("history");
/// let programs = ChatPrograms::new().program("qa", fields, whole, streaming);
/// let app: Router = Router::new()
///     .merge(chat_completions(programs))
///     .layer(InboundLayer::new().max(Duration::from_secs(60)));
/// ```
///
/// # The request
/// `model` names the program. `messages` have roles `user`, `assistant`, `system` and `developer`, and a
/// text, or parts of type `text`. `stream`, and `stream_options.include_usage`, are as in the
/// [reference](https://platform.openai.com/docs/api-reference/chat). Options of the generation, such as
/// `temperature`, `max_tokens`, `stop` and `seed`, are ignored: how a program asks its LMs is its own
/// affair. Refused by 400 are what the answer would have to obey: `tools`, `functions`, more than one
/// choice (`n`), a `response_format` other than `text`, and messages of tools or with images or audio.
/// All members of the body are for [`ChatFields::inputs`](super::ChatFields::inputs).
///
/// # The answer
/// The text of the field `answer` is the `content`. The fields that
/// [`ChatFields::reasoning`](super::ChatFields::reasoning) names are the `reasoning_content`, as DeepSeek
/// and vLLM have it; in a stream, thinking is too. Fields, and those of several LM calls, are parted by
/// an empty line. Status, tools and other fields are left out. The usage is that of all LM calls of the
/// program.
///
/// Text is streamed as it comes, and text that was sent cannot be taken back in this dialect. So a
/// stream ends with an error of the type `stream_restarted` if the LM call whose text was sent does not
/// hold, or if a replacement of its text, or the answer of the prediction, does not continue what was
/// sent. Of LM calls that write the answer anew, as within
/// `dspy.BestOfN`, only the first is streamed. For such programs, stream other fields: the answer is
/// then sent at the end, at once. Answers that are not streamed are not concerned.
///
/// # Errors
/// They have OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, and the `call_id`: the code is the
/// [kind](crate::ErrorKind) of the failure, the type `invalid_request_error` for a status 4xx and
/// `server_error` for 5xx. Before the head they have their status by [the table](crate::inbound::respond)
/// and `Retry-After`; clients of OpenAI try again after 408, 429 and 5xx, but not with
/// `x-should-retry: false`, which 500 and 502 have. The head is sent with the first chunk, or after
/// [`with_head_after`](StreamOptions::with_head_after), 5 s by default; after it an error is the last
/// `data`, without a `[DONE]`.
pub fn chat_completions<T>(programs: ChatPrograms) -> Router<T>
where
    T: Clone + Send + Sync + 'static,
{
    StreamOptions::new().chat_completions(programs)
}

impl StreamOptions {
    /// [`chat_completions`](chat_completions()) with these options.
    pub fn chat_completions<T>(self, programs: ChatPrograms) -> Router<T>
    where
        T: Clone + Send + Sync + 'static,
    {
        let programs = Arc::new(programs);
        let (list, one) = (Arc::clone(&programs), Arc::clone(&programs));
        let list = move || std::future::ready(Json(list.models()).into_response());
        let one = move |Path(name): Path<String>| {
            std::future::ready(match one.model(&name) {
                Some(model) => Json(model).into_response(),
                None => OpenAiError::no_model(&name).into_response(),
            })
        };
        let complete = move |mut asker: Asker, request: Request| async move {
            let id = asker.id();
            match complete(&programs, asker, request, self).await {
                Ok(completed) => (id, completed).into_response(),
                Err(failed) => failed.of_call(id).into_response(),
            }
        };
        Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(list))
            .route("/v1/models/{*model}", get(one))
    }
}

async fn complete(
    programs: &ChatPrograms,
    asker: Asker,
    request: Request,
    options: StreamOptions,
) -> Result<Response, OpenAiError> {
    // The body is read first, as hyper reports a disconnect only after that.
    let body: Value = asker.body(request).await.map_err(OpenAiError::of)?;
    let asked = ChatCompletionRequest::read(&body)?;
    let Some((name, program)) = programs.get(&asked.model) else {
        return Err(OpenAiError::no_model(&asked.model));
    };
    let ChatProgram {
        fields,
        whole,
        streaming,
        ..
    } = program;
    let inputs = fields.to_inputs(asked.messages, &body);
    let inputs = inputs.map_err(|wrong| OpenAiError::invalid("messages", wrong))?;
    let request = asker.asks(inputs);
    if asked.stream {
        let writer = ChatCompletionWriter::new(name, fields.clone(), asked.include_usage);
        return Ok(respond(streaming.clone(), request, writer, options).await);
    }
    let prediction = whole.clone().oneshot(request).await;
    let completion = prediction.and_then(|prediction| completion(&name, fields, &prediction));
    let completion = completion.map_err(OpenAiError::failed)?;
    Ok(Json(completion).into_response())
}
