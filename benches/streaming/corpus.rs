//! The corpus of LM's answers, cut in many ways: what the reader of a stream has in the end, beside the
//! fields of the answer.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_dspy::{
    DspyService, Host, Lm, PredictRequest, StreamEvent,
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// A program with the fields and the adapter of a row.
const PROGRAM: &str = "
import dspy

class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict('question -> FIELDS')

    async def aforward(self, question):
        with dspy.context(adapter=dspy.ADAPTER()):
            return await self.ask.acall(question=question)
";

#[derive(Deserialize)]
struct Row {
    name: String,
    format: String,
    fields: Vec<(String, String)>,
    text: String,
    /// `None` if DSPy refuses the text.
    values: Option<BTreeMap<String, Value>>,
}

#[derive(Default)]
pub(crate) struct Losses {
    /// Characters of fields that the reader has not, or has otherwise.
    pub(crate) lost: usize,
    /// Fields that were sent once more, as the text that was parsed while it came was another one.
    pub(crate) replaced: usize,
}

pub(crate) async fn run(host: &Host) -> Losses {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../../src/stream/fields/corpus.json")).expect("rows");
    let lm = ScriptedLm::start().await.expect("an LM server");
    let mut programs = BTreeMap::new();
    let mut losses = Losses::default();
    for row in rows.iter().filter(|row| row.values.is_some()) {
        let fields: Vec<_> = row
            .fields
            .iter()
            .map(|(name, of)| format!("{name}: {of}"))
            .collect();
        let key = (row.format.clone(), fields.join(", "));
        if !programs.contains_key(&key) {
            let program = load(host, &lm, &key.0, &key.1).await;
            programs.insert(key.clone(), program);
        }
        for cut in [1, 2, 3, 7, usize::MAX] {
            lm.script("corpus", Reply::pieces(pieces(&row.text, cut)));
            read(&programs[&key], row, &mut losses).await;
        }
    }
    losses
}

async fn load(host: &Host, lm: &ScriptedLm, format: &str, fields: &str) -> DspyService {
    let adapter = match format {
        "chat" => "ChatAdapter",
        "json" => "JSONAdapter",
        _ => "XMLAdapter",
    };
    let source = PROGRAM
        .replace("FIELDS", fields)
        .replace("ADAPTER", adapter);
    let lm = Lm::new("openai/corpus")
        .base_url(lm.base_url())
        .key("unused");
    host.load_source(source, "Program")
        .lm(lm)
        .await
        .expect("a program")
}

/// The text in pieces of `length` characters.
fn pieces(text: &str, length: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let length = length.min(chars.len()).max(1);
    chars
        .chunks(length)
        .map(|piece| piece.iter().collect())
        .collect()
}

async fn read(program: &DspyService, row: &Row, losses: &mut Losses) {
    let request = PredictRequest::new(json!({"question": "?"}));
    let mut texts = BTreeMap::<Arc<str>, String>::new();
    let mut stream = match program.streaming().oneshot(request).await {
        Ok(stream) => stream,
        Err(error) => panic!("{}: {error}", row.name),
    };
    while let Some(event) = stream.next().await {
        match event.unwrap_or_else(|error| panic!("{}: {error}", row.name)) {
            StreamEvent::Text { field, delta, .. } => *texts.entry(field).or_default() += &delta,
            StreamEvent::Replace { field, text, .. } => {
                losses.replaced += 1;
                texts.insert(field, text);
            }
            StreamEvent::Done(prediction) => {
                for (field, value) in row.values.iter().flatten() {
                    let Value::String(value) = value else {
                        continue;
                    };
                    assert_eq!(prediction.get(field), Some(&json!(value)), "{}", row.name);
                    let text = texts.get(&**field).map_or("", String::as_str);
                    let same = value.chars().zip(text.chars()).take_while(|(a, b)| a == b);
                    let longest = value.chars().count().max(text.chars().count());
                    losses.lost += longest - same.count();
                }
            }
            _ => {}
        }
    }
}
