//! An LM that never answers, in a process of its own.
//!
//! The process is this executable once more. It writes its port, and then a line for each number that
//! it has read, once so many requests wait.

use std::{
    env,
    io::{BufRead, stdin},
    net::SocketAddr,
    process::Stdio,
    thread,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
};

const VARIABLE: &str = "IN_FLIGHT_LM_PROCESS";

/// The LM's process, which ends when this is dropped.
pub(crate) struct LmProcess {
    pub(crate) base_url: String,
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl LmProcess {
    pub(crate) async fn start() -> Self {
        let executable = env::current_exe().expect("the path of this executable");
        let mut child = Command::new(executable)
            .args(env::args_os().skip(1))
            .env(VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut process = Self {
            base_url: String::new(),
            _child: child,
            input,
            output: output.lines(),
        };
        process.base_url = format!("http://127.0.0.1:{}/v1", process.line().await);
        process
    }

    /// Waits until so many requests wait for their answer.
    pub(crate) async fn wait_for(&mut self, requests: usize) {
        let order = format!("{requests}\n");
        let written = self.input.write_all(order.as_bytes()).await;
        written.expect("an LM that reads");
        self.line().await;
    }

    async fn line(&mut self) -> String {
        let line = self.output.next_line().await;
        line.expect("an LM that writes").expect("an LM that runs")
    }
}

/// Whether this process is the LM's.
pub(crate) fn is_child() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Runs the LM until the end of its standard input.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (waiting, mut seen) = watch::channel(0);
    // A thread: a runtime does not end while tokio's own one reads the standard input.
    let (orders, mut numbers) = tokio::sync::mpsc::unbounded_channel::<usize>();
    thread::spawn(move || {
        for line in stdin().lock().lines() {
            let number = line.expect("a line").parse().expect("a number");
            let _ = orders.send(number);
        }
    });
    runtime.block_on(async move {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(address).await.expect("a port");
        println!("{}", listener.local_addr().expect("its address").port());
        tokio::spawn(accept(listener, waiting));
        while let Some(number) = numbers.recv().await {
            let reached = seen.wait_for(|waiting| *waiting == number).await;
            reached.expect("a server");
            println!("{number}");
        }
    });
}

async fn accept(listener: TcpListener, waiting: watch::Sender<usize>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(keep_waiting(stream, waiting.clone()));
    }
}

/// Reads a request, and counts it until its client goes.
async fn keep_waiting(mut stream: TcpStream, waiting: watch::Sender<usize>) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    drop(request);
    waiting.send_modify(|waiting| *waiting += 1);
    let mut rest = [0; 1];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    waiting.send_modify(|waiting| *waiting -= 1);
}

/// Whether a request has come with its body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.is_some_and(|(_, length)| length.trim().parse() == Ok(body.len()))
}
