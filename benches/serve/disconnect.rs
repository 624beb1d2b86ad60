//! From a client's hanging up until the LM's server has seen its own client go.

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};
use tower_dspy::testing::scripted_lm::Reply;

use crate::{
    room::{CLIENTS, Room, Server},
    support::{Durations, until, works_left},
};

const ROUNDS_ONE: usize = 300;
const ROUNDS_MANY: usize = 40;

pub(crate) struct Gone {
    pub(crate) one: Durations,
    pub(crate) many: Durations,
}

pub(crate) async fn measure(room: &Room) -> Gone {
    // Not measured: the first connections, the first cancellations.
    rounds(room, "gone-warm-up", CLIENTS, 2).await;
    Gone {
        one: rounds(room, "gone-one", 1, ROUNDS_ONE).await,
        many: rounds(room, "gone-many", CLIENTS, ROUNDS_MANY).await,
    }
}

async fn rounds(room: &Room, model: &str, clients: usize, rounds: usize) -> Durations {
    let program = room.program(model, Reply::hang()).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let until_stopped = |until: tower_dspy::server::GracefulShutdown| {
        until.with_signal(async move { drop(stopped.await) })
    };
    let server = Server::start(0, program, until_stopped, |_| {});
    let address = server.address;
    let at_work = || room.lm.summary(model).running;

    let mut hung_up = Vec::with_capacity(rounds * clients);
    for _ in 0..rounds {
        let mut calls = Vec::with_capacity(clients);
        for n in hung_up.len()..hung_up.len() + clients {
            let mut client = TcpStream::connect(address).await.expect("a server");
            let request = request(n);
            client
                .write_all(request.as_bytes())
                .await
                .expect("a reader");
            calls.push(client);
        }
        assert!(
            until(|| at_work() == clients).await,
            "calls that do not come"
        );
        for client in calls {
            hung_up.push(Instant::now());
            drop(client);
        }
        assert!(until(|| at_work() == 0).await, "calls that do not go");
        works_left(&room.host).await;
    }
    drop(stop);
    server.end().await;

    let records = room.lm.requests(model);
    assert_eq!(records.len(), hung_up.len(), "requests, one a call");
    let mut durations = Durations::new();
    for record in records {
        let body = record.body.to_string();
        let number = body.split("call number ").nth(1);
        let number = number.and_then(|rest| rest.split('?').next());
        let n: usize = number.and_then(|n| n.parse().ok()).expect("a question");
        durations.record(record.client_gone.expect("a client that went") - hung_up[n]);
    }
    room.lm.forget(model);
    durations
}

/// By hand: the socket is closed when it is dropped, and not by a task somewhen later.
fn request(n: usize) -> String {
    let inputs = json!({"question": format!("What is call number {n}?")}).to_string();
    format!(
        "POST /qa HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{inputs}",
        inputs.len()
    )
}
