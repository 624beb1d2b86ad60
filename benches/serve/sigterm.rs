//! A real SIGTERM while many clients ask as fast as they are answered: what becomes of each request
//! that was sent.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::{process::Command, task::JoinSet};
use tower_dspy::testing::scripted_lm::Reply;

use crate::{
    client::{Came, Connection},
    room::{CLIENTS, Room, Server},
    support::until,
};

pub(crate) const ROUNDS: usize = 20;
/// How many answers there are before the signal comes: every client has had some.
const WARM: u64 = 8 * CLIENTS as u64;

#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    /// Sent on connections that the server never had: they lay in the kernel when it closed its
    /// listener.
    pub(crate) never_accepted: u64,
    /// Sent on connections that the server had, and neither answered nor refused.
    pub(crate) lost: u64,
}

pub(crate) async fn measure(room: &Room) -> Ends {
    let answer = Reply::answer("so").delay(Duration::from_millis(5));
    let program = room.program("sigterm", answer).await;
    let mut ends = Ends::default();
    for round in 0..ROUNDS {
        let accepted = Arc::new(Mutex::new(HashSet::new()));
        let note = accepted.clone();
        let server = Server::start(
            0,
            program.clone(),
            |until| until,
            move |peer| {
                note.lock().expect("no panic").insert(peer);
            },
        );
        let answers = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            // Half of them make a connection for each request.
            let client = Client {
                server: server.address,
                keeps: n % 2 == 0,
                answers: answers.clone(),
            };
            clients.spawn(client.run());
        }
        assert!(until(|| answers.load(Relaxed) > WARM).await, "no answers");
        terminate_self().await;
        for client in clients.join_all().await {
            ends.refused += client.refused;
            for (address, error) in client.lost {
                let accepted = accepted.lock().expect("no panic");
                let had = accepted.contains(&address);
                eprintln!("round {round}: lost, accepted: {had}: {error:?}");
                *if had {
                    &mut ends.lost
                } else {
                    &mut ends.never_accepted
                } += 1;
            }
        }
        ends.answered += answers.load(Relaxed);
        let report = server.end().await;
        assert!(report.is_clean(), "{report}");
        room.lm.forget("sigterm");
    }
    ends
}

/// The servers of this process have a handler for it.
async fn terminate_self() {
    let pid = std::process::id().to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(kill.expect("kill").success());
}

struct Client {
    server: SocketAddr,
    keeps: bool,
    answers: Arc<AtomicU64>,
}

#[derive(Default)]
struct Seen {
    refused: u64,
    lost: Vec<(SocketAddr, hyper::Error)>,
}

impl Client {
    /// Asks until the server wants no more.
    async fn run(self) -> Seen {
        let mut seen = Seen::default();
        let mut kept = None;
        loop {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => match Connection::open(self.server).await {
                    Ok(connection) => connection,
                    Err(_) => {
                        seen.refused += 1;
                        return seen;
                    }
                },
            };
            match connection.ask("Why?").await {
                Came::Answer(StatusCode::OK) => {
                    self.answers.fetch_add(1, Relaxed);
                    kept = Some(connection).filter(|_| self.keeps);
                }
                Came::Answer(StatusCode::SERVICE_UNAVAILABLE) => {
                    seen.refused += 1;
                    return seen;
                }
                Came::Answer(other) => panic!("{other}"),
                // Closed between two requests; the next finds out whether the server is there.
                Came::Unsent => {}
                Came::Lost(error) => {
                    seen.lost.push((connection.address, error));
                    return seen;
                }
            }
        }
    }
}
