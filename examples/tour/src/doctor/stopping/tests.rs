//! The measurement against servers of each kind.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower_dspy::Lm;

use super::*;

/// The time of a step.
const STEP_TIME: Duration = Duration::from_millis(20);
/// How many steps an answer has at most: 16 s.
const MOST: u64 = 800;
/// The tokens of a step of a server whose answers take about 7 s: longer than `prompt`, so that one with
/// enough left, because it began late, is seen to go on.
const FAST: usize = 6;

/// A server on loopback that works on `slots` requests at once.
struct FakeServer {
    slots: Semaphore,
    /// The tokens that it makes in a [step](STEP_TIME).
    speed: usize,
    stops: bool,
    gauge: FakeGauge,
    /// Requests that it works on, or that wait for a slot.
    at_work: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum FakeGauge {
    None,
    Load,
    Slots,
    Vllm,
}

impl FakeServer {
    /// Starts a server; returns the measurement against it. What ends within 4 s has stopped, also where
    /// the machine is busy: what goes on does so for three times as long.
    async fn measure(slots: usize, speed: usize, stops: bool, gauge: FakeGauge) -> Stopping {
        let server = Arc::new(Self {
            slots: Semaphore::new(slots),
            speed,
            stops,
            gauge,
            at_work: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(tcp).await });
            }
        });
        let lm = Lm::new("openai/m").base_url(&url).key("none");
        let client = ChatClient::new(&lm, &url).expect("a client");
        let limits = StoppingLimits {
            prompt: Duration::from_secs(4),
            longest: Duration::from_secs(60),
        };
        limits.measure(&client).await
    }

    async fn serve(&self, mut tcp: TcpStream) -> io::Result<()> {
        let (path, body) = read_request(&mut tcp).await?;
        let at_work = self.at_work.load(Ordering::Relaxed);
        let page = match (&*path, self.gauge) {
            ("/v1/chat/completions", _) => return self.chat(tcp, body).await,
            ("/get_load", FakeGauge::Load) => format!(r#"[{{"dp_rank":0,"num_reqs":{at_work}}}]"#),
            ("/slots", FakeGauge::Slots) => {
                let slots = (0..4).map(|n| format!(r#"{{"is_processing":{}}}"#, n < at_work));
                format!("[{}]", slots.collect::<Vec<_>>().join(","))
            }
            ("/metrics", FakeGauge::Vllm) => {
                format!("vllm:num_requests_running{{engine=\"0\"}} {at_work}.0\n")
            }
            _ => return respond(&mut tcp, "404 Not Found", "").await,
        };
        respond(&mut tcp, "200 OK", &page).await
    }

    async fn chat(&self, mut tcp: TcpStream, body: Value) -> io::Result<()> {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        let done = self.answer(&mut tcp, &body).await;
        self.at_work.fetch_sub(1, Ordering::Relaxed);
        done
    }

    async fn answer(&self, tcp: &mut TcpStream, body: &Value) -> io::Result<()> {
        let _slot = self.slots.acquire().await.expect("it is open");
        let tokens = body["max_tokens"].as_u64().expect("a limit");
        let steps = tokens.div_ceil(self.speed as u64).min(MOST);
        if body["stream"] != true {
            sleep(STEP_TIME).await;
            return respond(tcp, "200 OK", r#"{"choices":[]}"#).await;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        tcp.write_all(head.as_bytes()).await?;
        let mut is_open = true;
        for _ in 0..steps {
            let mut byte = [0];
            tokio::select! {
                _ = tcp.read(&mut byte), if is_open => is_open = false,
                () = sleep(STEP_TIME) => {}
            }
            if !is_open && self.stops {
                return Ok(());
            }
            if is_open {
                let event = "data: {\"choices\":[{\"delta\":{\"content\":\"one \"}}]}\n\n";
                tcp.write_all(event.repeat(self.speed).as_bytes()).await?;
            }
        }
        Ok(())
    }
}

async fn read_request(tcp: &mut TcpStream) -> io::Result<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .split_once("content-length: ")
                .map_or("0", |(_, rest)| rest);
            let length = length.lines().next().unwrap_or("0");
            if body.len() >= length.parse::<usize>().unwrap_or(0) {
                let path = head.split(' ').nth(1).unwrap_or_default();
                return Ok((
                    path.to_owned(),
                    serde_json::from_str(body).unwrap_or_default(),
                ));
            }
        }
        let mut more = [0; 4096];
        match tcp.read(&mut more).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&more[..read]),
        }
    }
}

async fn respond(tcp: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    tcp.write_all(format!("{head}{body}").as_bytes()).await
}

/// Measures servers of these kinds side by side.
async fn measured(
    servers: impl IntoIterator<Item = (usize, FakeGauge)>,
    stops: bool,
) -> Vec<(FakeGauge, Stopping)> {
    let measure = |(slots, gauge)| {
        let found = tokio::spawn(FakeServer::measure(slots, 1, stops, gauge));
        (gauge, found)
    };
    let under_way: Vec<_> = servers.into_iter().map(measure).collect();
    let mut all = Vec::new();
    for (gauge, found) in under_way {
        all.push((gauge, found.await.expect("it ends")));
    }
    all
}

#[tokio::test]
async fn a_server_that_stops_is_seen_to() {
    let servers = [
        (4, FakeGauge::Load),
        (4, FakeGauge::Slots),
        (4, FakeGauge::Vllm),
        (1, FakeGauge::None),
    ];
    for (gauge, found) in measured(servers, true).await {
        assert!(
            matches!(found, Stopping::Stopped { .. }),
            "{gauge:?}: {found}"
        );
    }
}

#[tokio::test]
async fn a_server_that_goes_on_is_seen_to() {
    let servers = [
        (4, FakeGauge::Load),
        (4, FakeGauge::Slots),
        (4, FakeGauge::Vllm),
        (1, FakeGauge::None),
    ];
    for (gauge, found) in measured(servers, false).await {
        let is_seen = matches!(found, Stopping::WentOn { is_over: true, .. });
        assert!(is_seen, "{gauge:?}: {found}");
    }
}

#[tokio::test]
async fn a_server_of_many_slots_without_a_gauge_tells_nothing() {
    let found = FakeServer::measure(4, 1, true, FakeGauge::None).await;
    assert!(matches!(&found, Stopping::Unknown(_)), "{found}");
    assert!(
        found.to_string().contains("several calls at once"),
        "{found}"
    );
}

#[tokio::test]
async fn an_answer_that_is_nearly_over_is_not_taken_for_stopped() {
    let measure = |slots, gauge| FakeServer::measure(slots, FAST, false, gauge);
    let (alone, with_gauge) =
        tokio::join!(measure(1, FakeGauge::None), measure(4, FakeGauge::Load));
    for found in [alone, with_gauge] {
        assert!(!matches!(found, Stopping::Stopped { .. }), "{found}");
    }
}
