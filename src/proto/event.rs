//! A [`StreamEvent`] as a message, and back.

use std::fmt;

use serde_json::Value;

use super::{
    convert::{from_response, to_response},
    json::StructError,
    v1::{
        self,
        predict_event::{
            Event, Replace, Restart, Status, Text, Thinking, ToolCall, ToolResult, tool_result,
        },
    },
};
use crate::stream::StreamEvent;

pub(crate) fn to_event(event: StreamEvent) -> Result<v1::PredictEvent, StructError> {
    let event = match event {
        StreamEvent::Text {
            lm_call,
            predictor,
            field,
            delta,
        } => Event::Text(Text {
            lm_call,
            predictor: predictor.as_ref().to_owned(),
            field: field.as_ref().to_owned(),
            delta,
        }),
        StreamEvent::Thinking {
            lm_call,
            predictor,
            delta,
        } => Event::Thinking(Thinking {
            lm_call,
            predictor: predictor.as_ref().to_owned(),
            delta,
        }),
        StreamEvent::Replace {
            lm_call,
            predictor,
            field,
            text,
        } => Event::Replace(Replace {
            lm_call,
            predictor: predictor.as_ref().to_owned(),
            field: field.as_ref().to_owned(),
            text,
        }),
        StreamEvent::Restart { lm_call, predictor } => Event::Restart(Restart {
            lm_call,
            predictor: predictor.as_ref().to_owned(),
        }),
        StreamEvent::Status { message } => Event::Status(Status { message }),
        StreamEvent::ToolCall {
            id,
            name,
            arguments,
        } => Event::ToolCall(ToolCall {
            id,
            name: name.as_ref().to_owned(),
            arguments: arguments.to_string(),
        }),
        StreamEvent::ToolResult { id, name, result } => Event::ToolResult(ToolResult {
            id,
            name: name.as_ref().to_owned(),
            result: Some(match result {
                Ok(value) => tool_result::Result::Value(value.to_string()),
                Err(error) => tool_result::Result::Error(error),
            }),
        }),
        StreamEvent::Done(prediction) => Event::Done(to_response(&prediction)?),
    };
    Ok(v1::PredictEvent { event: Some(event) })
}

/// `None` for an event without content, or of a kind that is not known here.
pub(crate) fn from_event(message: v1::PredictEvent) -> Result<Option<StreamEvent>, StructError> {
    Ok(Some(match message.event {
        Some(Event::Text(text)) if !text.delta.is_empty() => StreamEvent::Text {
            lm_call: text.lm_call,
            predictor: text.predictor.into(),
            field: text.field.into(),
            delta: text.delta,
        },
        Some(Event::Thinking(text)) if !text.delta.is_empty() => StreamEvent::Thinking {
            lm_call: text.lm_call,
            predictor: text.predictor.into(),
            delta: text.delta,
        },
        Some(Event::Text(_) | Event::Thinking(_)) | None => return Ok(None),
        Some(Event::Replace(replace)) => StreamEvent::Replace {
            lm_call: replace.lm_call,
            predictor: replace.predictor.into(),
            field: replace.field.into(),
            text: replace.text,
        },
        Some(Event::Restart(restart)) => StreamEvent::Restart {
            lm_call: restart.lm_call,
            predictor: restart.predictor.into(),
        },
        Some(Event::Status(Status { message })) => StreamEvent::Status { message },
        Some(Event::ToolCall(call)) => StreamEvent::ToolCall {
            id: call.id,
            name: call.name.into(),
            arguments: json(call.arguments),
        },
        Some(Event::ToolResult(ToolResult { id, name, result })) => StreamEvent::ToolResult {
            id,
            name: name.into(),
            result: match result {
                Some(tool_result::Result::Value(value)) => Ok(json(value)),
                Some(tool_result::Result::Error(error)) => Err(error),
                None => Ok(Value::Null),
            },
        },
        Some(Event::Done(response)) => StreamEvent::Done(Box::new(from_response(response)?)),
    }))
}

/// What is not JSON is a text: the event only reports, and its call goes on.
fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// Only the kind of the event is shown: an answer must not reach a log by accident.
macro_rules! debug_without_texts {
    ($($message:ident),*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )*};
}

debug_without_texts!(
    Text, Thinking, Replace, Restart, Status, ToolCall, ToolResult
);

impl fmt::Debug for tool_result::Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value(_) => "Value(..)",
            Self::Error(_) => "Error(..)",
        })
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Thinking(thinking) => thinking.fmt(f),
            Self::Replace(replace) => replace.fmt(f),
            Self::Restart(restart) => restart.fmt(f),
            Self::Status(status) => status.fmt(f),
            Self::ToolCall(call) => call.fmt(f),
            Self::ToolResult(result) => result.fmt(f),
            Self::Done(response) => f.debug_tuple("Done").field(response).finish(),
        }
    }
}

impl fmt::Debug for v1::PredictEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PredictEvent");
        shown.field("event", &self.event).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Prediction;

    fn events() -> Vec<StreamEvent> {
        let (lm_call, id, secret) = (7, 3, || "a secret".to_owned());
        let large = json!({"id": 9_007_199_254_740_993_u64, "about": "a secret"});
        let outputs = large.as_object().cloned().unwrap_or_default();
        let outputs = outputs.into_iter().filter(|(name, _)| name == "about");
        vec![
            StreamEvent::Text {
                lm_call,
                predictor: "qa".into(),
                field: "answer".into(),
                delta: secret(),
            },
            StreamEvent::Thinking {
                lm_call,
                predictor: "qa".into(),
                delta: secret(),
            },
            StreamEvent::Replace {
                lm_call,
                predictor: "qa".into(),
                field: "answer".into(),
                text: String::new(),
            },
            StreamEvent::Restart {
                lm_call,
                predictor: "qa".into(),
            },
            StreamEvent::Status { message: secret() },
            StreamEvent::ToolCall {
                id,
                name: "search".into(),
                arguments: large.clone(),
            },
            StreamEvent::ToolResult {
                id,
                name: "search".into(),
                result: Ok(large),
            },
            StreamEvent::ToolResult {
                id,
                name: "search".into(),
                result: Err(secret()),
            },
            StreamEvent::Done(Box::new(Prediction::new(outputs.collect()))),
        ]
    }

    #[test]
    fn each_event_comes_back_as_it_was_and_is_shown_without_its_text() {
        for event in events() {
            let message = to_event(event.clone()).unwrap();
            let shown = format!("{message:?}");
            assert!(!shown.contains("secret"), "{shown}");
            assert_eq!(from_event(message).unwrap(), Some(event));
        }
    }

    #[test]
    fn unknown_and_empty_events_are_skipped() {
        let empty = Event::Text(Text::default());
        for event in [
            None,
            Some(empty),
            Some(Event::Thinking(Thinking::default())),
        ] {
            assert_eq!(from_event(v1::PredictEvent { event }).unwrap(), None);
        }
    }

    #[test]
    fn arguments_that_are_no_json_come_as_text() {
        let call = ToolCall {
            arguments: "{cut".into(),
            ..ToolCall::default()
        };
        let event = Some(Event::ToolCall(call));
        let Some(StreamEvent::ToolCall { arguments, .. }) =
            from_event(v1::PredictEvent { event }).unwrap()
        else {
            panic!("another event");
        };
        assert_eq!(arguments, json!("{cut"));
    }
}
