//! [`ChatFields`]: which fields of a program are the parts of a chat.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value, json};

use super::message::{ChatMessage, ChatRole};

/// Sets further inputs, from the body of the request.
type Inputs = dyn Fn(&Value, &mut Map<String, Value>) + Send + Sync;

/// Which input takes the user's message, and which output is the answer.
///
/// ```
/// use tower_dspy::inbound::axum::stream::ChatFields;
///
/// // "question, history: dspy.History, language -> reasoning, answer"
/// let fields = ChatFields::new("question", "answer")
///     .history("history")
///     .reasoning("reasoning")
///     .inputs(|body, inputs| {
///         let language = body["language"].as_str().unwrap_or("English");
///         inputs.insert("language".into(), language.into());
///     });
/// ```
///
/// The last message must be the user's. Messages of the system are left out: the program has its own
/// instructions. Parts of a message that are no text, such as images, are refused.
#[derive(Clone)]
#[must_use]
pub struct ChatFields {
    question: Arc<str>,
    pub(in super::super) answer: Arc<str>,
    history: Option<Arc<str>>,
    reasoning: Vec<Arc<str>>,
    inputs: Option<Arc<Inputs>>,
}

impl ChatFields {
    /// The input `question` takes the last message, and the output `answer` is what is answered: as it
    /// is if it is a string, else as JSON. Earlier messages are left out.
    pub fn new(question: impl Into<Arc<str>>, answer: impl Into<Arc<str>>) -> Self {
        Self {
            question: question.into(),
            answer: answer.into(),
            history: None,
            reasoning: Vec::new(),
            inputs: None,
        }
    }

    /// The input `field`, of the type `dspy.History`, takes the turns before the last message:
    /// `{"messages": [{"question": "..", "answer": ".."}, ..]}`, with the names of the two fields.
    pub fn history(mut self, field: impl Into<Arc<str>>) -> Self {
        self.history = Some(field.into());
        self
    }

    /// The output `field` is shown as reasoning, as the model's own thinking is; one more each time.
    pub fn reasoning(mut self, field: impl Into<Arc<str>>) -> Self {
        self.reasoning.push(field.into());
        self
    }

    /// Lets `set` add to the inputs, or change them, with the body of the request: for what a client
    /// sends beside the messages, as the `body` of `useChat`.
    pub fn inputs(
        mut self,
        set: impl Fn(&Value, &mut Map<String, Value>) + Send + Sync + 'static,
    ) -> Self {
        self.inputs = Some(Arc::new(set));
        self
    }

    pub(in super::super) fn is_answer(&self, field: &str) -> bool {
        *self.answer == *field
    }

    pub(in super::super) fn is_reasoning(&self, field: &str) -> bool {
        self.reasoning.iter().any(|name| **name == *field)
    }

    pub(in super::super) fn reasoning_fields(&self) -> impl Iterator<Item = &str> {
        self.reasoning.iter().map(|name| &**name)
    }

    /// The inputs for a chat, or what is wrong with it.
    pub(in super::super) fn to_inputs(
        &self,
        mut messages: Vec<ChatMessage>,
        body: &Value,
    ) -> Result<Value, &'static str> {
        let Some(last) = messages.pop() else {
            return Err("there are no messages");
        };
        if last.role != ChatRole::User {
            return Err("the last message is not the user's");
        }
        let mut inputs = Map::new();
        inputs.insert(self.question.to_string(), last.text.into());
        if let Some(history) = &self.history {
            let turns = self.turns(messages);
            inputs.insert(history.to_string(), json!({ "messages": turns }));
        }
        if let Some(set) = &self.inputs {
            set(body, &mut inputs);
        }
        Ok(inputs.into())
    }

    /// A turn is a question, its answer, or both: a message is not left out because its counterpart
    /// is missing.
    fn turns(&self, messages: Vec<ChatMessage>) -> Vec<Map<String, Value>> {
        let mut turns = Vec::<Map<String, Value>>::new();
        for message in messages {
            let text = Value::from(message.text);
            match message.role {
                ChatRole::System => {}
                ChatRole::User => {
                    turns.push(Map::from_iter([(self.question.to_string(), text)]));
                }
                ChatRole::Assistant => match turns.last_mut() {
                    Some(turn) if !turn.contains_key(&*self.answer) => {
                        turn.insert(self.answer.to_string(), text);
                    }
                    _ => turns.push(Map::from_iter([(self.answer.to_string(), text)])),
                },
            }
        }
        turns
    }
}

impl fmt::Debug for ChatFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatFields")
            .field("question", &self.question)
            .field("answer", &self.answer)
            .field("history", &self.history)
            .field("reasoning", &self.reasoning)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: ChatRole, text: &str) -> ChatMessage {
        let text = text.to_owned();
        ChatMessage { role, text }
    }

    #[test]
    fn earlier_turns_become_a_history() {
        use ChatRole::{Assistant, System, User};
        let messages = vec![
            message(System, "be nice"),
            message(Assistant, "hello"),
            message(User, "one"),
            message(User, "two"),
            message(Assistant, "2"),
            message(Assistant, "still 2"),
            message(User, "three"),
        ];
        let fields = ChatFields::new("q", "a").history("before");
        assert_eq!(
            fields.to_inputs(messages.clone(), &Value::Null).unwrap(),
            json!({"q": "three", "before": {"messages": [
                {"a": "hello"}, {"q": "one"}, {"q": "two", "a": "2"}, {"a": "still 2"},
            ]}})
        );
        let fields = ChatFields::new("q", "a").inputs(|body, inputs| {
            inputs.insert("k".into(), body["k"].clone());
        });
        assert_eq!(
            fields.to_inputs(messages, &json!({"k": 3})).unwrap(),
            json!({"q": "three", "k": 3})
        );
    }

    #[test]
    fn a_chat_whose_last_message_is_not_the_users_is_refused() {
        let fields = ChatFields::new("q", "a");
        for role in [ChatRole::Assistant, ChatRole::System] {
            let messages = vec![message(ChatRole::User, "one"), message(role, "two")];
            assert!(fields.to_inputs(messages, &Value::Null).is_err());
        }
        assert!(fields.to_inputs(Vec::new(), &Value::Null).is_err());
    }
}
