//! Python's grpcio as the client.

use std::{env, path::PathBuf, process::Stdio};

use prost::Message;
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command, sync::OnceCell};
use tonic::Status;
use tonic_types::StatusExt;
use tower_dspy::{
    Cause, InvalidInput,
    inbound::tonic::Programs,
    proto::{
        from_struct, to_struct,
        v1::{self, predict_event::Event},
    },
    testing::mock::{MockDspy, Reply},
};

use super::{Node, seen};

const PATH: &str = "/tower_dspy.v1.Predict/Predict";
const STREAM: &str = "/tower_dspy.v1.Predict/PredictStream";

/// An interpreter that has grpcio, from the lock file with hashes.
async fn python() -> PathBuf {
    static VENV: OnceCell<PathBuf> = OnceCell::const_new();
    VENV.get_or_init(make).await.clone()
}

async fn make() -> PathBuf {
    let lock = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/python/requirements-dev.lock"
    );
    let venv = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("grpcio");
    let stamp = venv.join("stamp");
    let wanted = std::fs::read(lock).unwrap();
    let python = venv.join("bin/python");
    if std::fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return python;
    }
    let base = env::var_os("PYO3_PYTHON").unwrap_or_else(|| "python3".into());
    run(Command::new(base)
        .args(["-m", "venv", "--clear"])
        .arg(&venv))
    .await;
    let mut pip = Command::new(&python);
    let pip = pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        lock,
    ]);
    run(pip).await;
    std::fs::write(stamp, wanted).unwrap();
    python
}

async fn run(command: &mut Command) {
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
}

/// What grpcio saw.
struct Seen {
    code: String,
    message: String,
    answer: Vec<u8>,
    /// Those of a stream.
    events: Vec<Vec<u8>>,
    details: Vec<u8>,
}

/// Asks the program of `node`; `cancel` waits for the moment to cancel the call.
async fn ask(node: &Node, timeout: f64, cancel: Option<impl Future<Output = ()>>) -> Seen {
    let what = if cancel.is_some() { "cancel" } else { "ask" };
    call(node, PATH, timeout, what, cancel).await
}

async fn call(
    node: &Node,
    path: &str,
    timeout: f64,
    what: &str,
    cancel: Option<impl Future<Output = ()>>,
) -> Seen {
    let inputs = json!({"question": "größe?", "n": 3});
    let request = v1::PredictRequest {
        program: "qa".into(),
        inputs: Some(to_struct(inputs.as_object().unwrap()).unwrap()),
        ..Default::default()
    };
    let hex: String = request
        .encode_to_vec()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inbound/grpc/client.py");
    let mut client = Command::new(python().await)
        .arg(script)
        .args([
            &node.address.to_string(),
            path,
            &hex,
            &timeout.to_string(),
            what,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    if let Some(moment) = cancel {
        moment.await;
        stdin.write_all(b"now\n").await.unwrap();
    }
    let output = client.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines = said.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let (code, message, messages) = (next(), next(), next());
    let events: Vec<_> = match &*messages {
        "" => Vec::new(),
        messages => messages.split(',').map(bytes).collect(),
    };
    Seen {
        code,
        message,
        answer: events.first().cloned().unwrap_or_default(),
        events,
        details: bytes(&next()),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let digits = digits.map(|digits| std::str::from_utf8(digits).unwrap());
    digits
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}

type Never = std::future::Pending<()>;

#[tokio::test]
async fn grpcio_gets_an_answer() {
    let mock = MockDspy::new([Reply::answer("blau, größer")]);
    let node = Node::of(&mock).await;
    let seen = ask(&node, 60.0, None::<Never>).await;
    assert_eq!(seen.code, "OK", "{}", seen.message);
    let answer = v1::PredictResponse::decode(&*seen.answer).unwrap();
    let outputs = from_struct(answer.outputs.unwrap()).unwrap();
    assert_eq!(outputs["answer"], "blau, größer");
    let call = mock.calls().remove(0);
    assert_eq!(call.inputs, json!({"question": "größe?", "n": 3}));
    assert!(call.time_left.is_some_and(|left| left.as_secs() <= 60));
}

#[tokio::test]
async fn grpcio_reads_the_details() {
    let refused = InvalidInput::new("qa", Some("n"), "`n` is zu groß", "less");
    let node = Node::of(&MockDspy::new([Reply::error(refused.clone())])).await;
    let seen = ask(&node, 60.0, None::<Never>).await;
    assert_eq!(seen.code, "INVALID_ARGUMENT");
    assert_eq!(seen.message, refused.to_string());
    let status = Status::with_details(tonic::Code::InvalidArgument, "", seen.details.into());
    let details = status.get_error_details();
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "n"
    );
}

/// `timeout_on_sleeping_server`, by grpcio.
#[tokio::test]
async fn a_timeout_of_grpcio_stops_the_program() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    let seen_there = ask(&node, 3.0, None::<Never>).await;
    assert_eq!(seen_there.code, "DEADLINE_EXCEEDED");
    seen(&mock, |calls| calls.len() == 1 && !calls[0].in_flight).await;
}

/// `cancel_after_begin`, by grpcio.
#[tokio::test]
async fn a_cancel_of_grpcio_stops_the_program() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    let begun = seen(&mock, |calls| calls.len() == 1);
    let seen_there = ask(&node, 0.0, Some(begun)).await;
    assert_eq!(seen_there.code, "CANCELLED");
    seen(&mock, |calls| !calls[0].in_flight).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone]);
}

#[tokio::test]
async fn grpcio_reads_a_stream_and_the_status_at_its_end() {
    let refused = InvalidInput::new("qa", Some("n"), "`n` is zu groß", "less");
    let mock = MockDspy::new([
        Reply::text("answer", ["blau, ", "größer"]),
        Reply::text("answer", ["blau, "]).then(Reply::error(refused.clone())),
    ]);
    let programs = Programs::new().program_streaming("qa", mock.clone(), mock.streaming());
    let node = Node::start(programs).await;
    let event = |bytes: &Vec<u8>| v1::PredictEvent::decode(&**bytes).unwrap().event.unwrap();

    let seen = call(&node, STREAM, 60.0, "stream", None::<Never>).await;
    assert_eq!(seen.code, "OK", "{}", seen.message);
    let events: Vec<_> = seen.events.iter().map(event).collect();
    let [Event::Text(first), Event::Text(second), Event::Done(answer)] = &*events else {
        panic!("{events:?}");
    };
    assert_eq!((&*first.delta, &*second.delta), ("blau, ", "größer"));
    let outputs = from_struct(answer.outputs.clone().unwrap()).unwrap();
    assert_eq!(outputs["answer"], "blau, größer");
    assert!(
        mock.calls()[0]
            .time_left
            .is_some_and(|left| left.as_secs() <= 60)
    );

    let seen = call(&node, STREAM, 60.0, "stream", None::<Never>).await;
    assert_eq!((&*seen.code, seen.events.len()), ("INVALID_ARGUMENT", 1));
    assert_eq!(seen.message, refused.to_string());
    let status = Status::with_details(tonic::Code::InvalidArgument, "", seen.details.into());
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "n");
}
