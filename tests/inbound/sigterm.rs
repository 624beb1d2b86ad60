//! A real SIGTERM to a process that serves, at peak load.

use std::{net::SocketAddr, time::Duration};

use http::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpListener,
    process::{ChildStdout, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tower_dspy::{
    Shutdown,
    server::{GracefulShutdown, serve},
    testing::mock::{MockDspy, Reply},
};

use super::{
    own_process::again,
    raw::{Asked, ask},
    served::{LONG, program},
    support::SOON,
};

const CLIENTS: usize = 32;

/// The server, in a process of its own: it says where it listens, and ends at SIGTERM.
async fn server() {
    let work = Duration::from_millis(5);
    let mock = MockDspy::from_fn(move |_| Reply::answer(json!({"answer": "blue"})).after(work));
    let mock = mock.max_in_flight(CLIENTS);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nserving {}", listener.local_addr().unwrap());
    let until = GracefulShutdown::new(Shutdown::new(), LONG);
    let report = serve(listener, program(&mock), until).await.unwrap();
    assert!(report.is_clean(), "{report}");
    let requests = &report.requests;
    assert_eq!(requests.accepted, requests.completed, "{report}");
    assert_eq!(mock.in_flight(), 0);
    println!("\nanswered {}", requests.accepted + requests.refused);
}

/// The first line of its output that begins so, without its beginning.
async fn line(said: &mut Lines<BufReader<ChildStdout>>, begins: &str) -> String {
    let line = async {
        loop {
            let line = said.next_line().await.unwrap().expect("its output ended");
            if let Some(rest) = line.strip_prefix(begins) {
                return rest.to_owned();
            }
        }
    };
    timeout(SOON, line).await.expect("it does not say so")
}

#[tokio::test]
async fn at_peak_load_every_request_is_answered_or_refused() {
    let name = "sigterm::at_peak_load_every_request_is_answered_or_refused";
    let Some(mut child) = again(name) else {
        return server().await;
    };
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let address: SocketAddr = line(&mut said, "serving ").await.parse().unwrap();
    let answers = watch::Sender::new(0_u64);
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        // Half of them make a connection for each request.
        clients.spawn(client(address, n % 2 == 0, answers.clone()));
    }
    let mut warm = answers.subscribe();
    let warm = warm.wait_for(|&answers| answers > 20 * CLIENTS as u64);
    timeout(SOON, warm).await.expect("no answers").unwrap();
    let pid = child.id().expect("it runs").to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(kill.unwrap().success());

    let refused = timeout(SOON, clients.join_all())
        .await
        .expect("it goes on serving");
    let answered = *answers.borrow() + refused.iter().sum::<u64>();
    // What reached the server is what was answered: what was lost had not come to it.
    assert_eq!(line(&mut said, "answered ").await, answered.to_string());
    // One that was filtered out would have passed as well.
    line(&mut said, "test result: ok. 1 passed").await;
    assert!(child.wait().await.unwrap().success());
}

/// Asks until the server wants no more; returns how often it was told so.
async fn client(server: SocketAddr, keeps: bool, answers: watch::Sender<u64>) -> u64 {
    let mut kept = None;
    loop {
        match ask(server, &mut kept).await {
            Asked::Answered(StatusCode::OK) => answers.send_modify(|n| *n += 1),
            Asked::Answered(StatusCode::SERVICE_UNAVAILABLE) => return 1,
            // Reset while the listener closed, or sent just as the server closed an idle connection:
            // no server can help that.
            Asked::Refused | Asked::Lost { first: true, .. } | Asked::Lost { late: true, .. } => {
                return 0;
            }
            other => panic!("{other:?}"),
        }
        kept = kept.filter(|_| keeps);
    }
}
