//! The flow control of streamed answers: what a program does not read is not read from the socket.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_dspy::{
    Deadline, DspyService, Error, Lm, LmOutcome, PredictRequest, Prediction, lm::LmLimits,
};

use crate::support::{HOUR, LIMIT, TestHost, ask, call, eventually, eventually_seen, host, load};

const KIB: usize = 1 << 10;

/// Far more than the buffers of the kernel and of the host hold.
const LINES: usize = 24 * KIB;

/// The events that `http_requests:numbered` makes.
static BODY: LazyLock<String> = LazyLock::new(|| {
    let zeros = "0".repeat(1008);
    let line = |number| format!("data: {zeros}{number:08}\n\n");
    (0..LINES).map(line).collect()
});

/// A server of one streamed answer.
struct Server {
    base_url: String,
    /// The bytes of the answer that it could write.
    written: Arc<AtomicUsize>,
    /// An error once its client is gone.
    served: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        LazyLock::force(&BODY);
        let socket = TcpSocket::new_v4().unwrap();
        // Else it grows to megabytes.
        socket.set_send_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let written = Arc::<AtomicUsize>::default();
        let count = written.clone();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            serve(stream, &count).await
        });
        Self {
            base_url,
            written,
            served,
        }
    }

    /// Waits until it cannot write any more; returns how much it could.
    async fn blocked(&self) -> usize {
        let mut before = 0;
        loop {
            sleep(Duration::from_millis(500)).await;
            let written = self.written.load(Ordering::Relaxed);
            if written > 0 && written == before {
                return written;
            }
            before = written;
        }
    }

    async fn client_is_gone(self) {
        let served = timeout(LIMIT, self.served).await.unwrap();
        assert!(served.unwrap().is_err());
    }
}

async fn serve(mut stream: TcpStream, written: &AtomicUsize) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await?;
    for part in BODY.as_bytes().chunks(16 * KIB) {
        stream.write_all(part).await?;
        written.fetch_add(part.len(), Ordering::Relaxed);
    }
    Ok(())
}

/// A program that reads its answer late, from an LM's path or another.
#[derive(Clone, Copy)]
struct Reader(&'static str, &'static str);

const READERS: [Reader; 4] = [
    Reader("http_requests:reads_late", "/chat/completions"),
    Reader("http_requests:ReadsLate", "/chat/completions"),
    Reader("http_requests:reads_late", "/page"),
    Reader("http_requests:ReadsLate", "/page"),
];

/// A call of a reader.
struct Call {
    server: Server,
    program: DspyService,
    answer: JoinHandle<Result<Prediction, Error>>,
    /// For what the program notes, and its gate.
    key: String,
}

impl Reader {
    async fn start(
        self,
        host: &TestHost,
        test: &str,
        limits: LmLimits,
        deadline: Duration,
    ) -> Call {
        let Self(target, path) = self;
        let server = Server::start().await;
        let lm = Lm::new("openai/flow").base_url(&server.base_url);
        let load = host.load(target).lm(lm.key("test-key").limits(limits));
        let program = load.await.unwrap();
        let key = format!("{test} {target} {path}");
        let url = format!("{}{path}", server.base_url);
        let request = PredictRequest::new(json!({"key": key, "url": url, "lines": LINES}));
        let request = request.with_deadline(Deadline::within(deadline));
        Call {
            answer: tokio::spawn(program.clone().oneshot(request)),
            server,
            program,
            key,
        }
    }

    /// Starts a call and waits until its program does not read and its server cannot write.
    async fn blocked(self, host: &TestHost, test: &str) -> Call {
        let call = self.start(host, test, LmLimits::new(), HOUR).await;
        eventually_seen(host, &call.key, &["reading"]).await;
        let written = call.server.blocked().await;
        assert!(written < BODY.len() / 2, "{}: {written} bytes", call.key);
        call
    }
}

async fn let_read(host: &TestHost, key: &str) {
    call(host, "http_requests:let_read", json!({"key": key})).await;
}

#[tokio::test]
async fn an_answer_that_is_read_late_blocks_its_server_alone_and_arrives_whole() {
    let host = host().await;
    join_all(READERS.map(async |reader| {
        let call = reader.blocked(&host, "late").await;
        let other = load(&host, "question -> answer", "flow-other").await;
        other.oneshot(ask("?")).await.unwrap();
        assert!(!call.answer.is_finished());
        let_read(&host, &call.key).await;
        let answer = call.answer.await.unwrap().unwrap();
        assert_eq!(answer.outputs["right"], true, "{}", call.key);
        call.server.served.await.unwrap().unwrap();
    }))
    .await;
}

#[tokio::test]
async fn a_dropped_call_closes_the_connection_of_an_answer_that_is_not_read() {
    let host = host().await;
    join_all(READERS.map(async |reader| {
        let call = reader.blocked(&host, "dropped").await;
        call.answer.abort();
        call.server.client_is_gone().await;
        eventually("the end of the call", || call.program.in_flight() == 0).await;
    }))
    .await;
}

#[tokio::test]
async fn a_deadline_closes_the_connection_of_an_answer_that_is_not_read() {
    let host = host().await;
    join_all(READERS.map(async |reader| {
        let limit = Duration::from_secs(5);
        let call = reader
            .start(&host, "deadline", LmLimits::new(), limit)
            .await;
        let error = call.answer.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Elapsed(_)), "{error:?}");
        call.server.client_is_gone().await;
        eventually("the end of the call", || call.program.in_flight() == 0).await;
    }))
    .await;
}

#[tokio::test]
async fn the_limit_of_an_lm_call_closes_the_connection_of_an_answer_that_is_not_read() {
    let host = host().await;
    let lm_readers = READERS
        .into_iter()
        .filter(|Reader(_, path)| *path != "/page");
    join_all(lm_readers.map(async |reader| {
        let limits = LmLimits::new().with_total(Duration::from_secs(5));
        let call = reader.start(&host, "total", limits, HOUR).await;
        call.server.client_is_gone().await;
        // The program learns of it where it reads.
        let_read(&host, &call.key).await;
        let error = call.answer.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("its limit of 5s"), "{error}");
        let calls = error.spent().map(|spent| spent.lm_calls.clone());
        assert_eq!(calls.unwrap()[0].outcome, LmOutcome::Elapsed);
    }))
    .await;
}
