//! The same program called directly and over HTTP, by turns.

use serde_json::json;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_dspy::{PredictRequest, testing::scripted_lm::Reply};

use crate::{
    client::{Came, Connection},
    room::{Room, Server},
    support::Durations,
};

const WARM_UP: usize = 300;
const CALLS: usize = 3_000;

pub(crate) struct Added {
    pub(crate) direct: Durations,
    pub(crate) http: Durations,
}

pub(crate) async fn measure(room: &Room) -> Added {
    let mut program = room.program("added", Reply::answer("so")).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let until = |until: tower_dspy::server::GracefulShutdown| {
        until.with_signal(async move { drop(stopped.await) })
    };
    let server = Server::start(0, program.clone(), until, |_| {});
    let mut client = Connection::open(server.address).await.expect("a server");
    let mut added = Added {
        direct: Durations::new(),
        http: Durations::new(),
    };
    for n in 0..WARM_UP + CALLS {
        let question = format!("question {n}");
        let began = Instant::now();
        let request = PredictRequest::new(json!({"question": &question}));
        let answer = program
            .ready()
            .await
            .expect("readiness")
            .call(request)
            .await;
        let direct = began.elapsed();
        assert!(answer.is_ok(), "{answer:?}");

        let began = Instant::now();
        let came = client.ask(&question).await;
        let http = began.elapsed();
        assert!(
            matches!(came, Came::Answer(status) if status == 200),
            "{came:?}"
        );

        if n >= WARM_UP {
            added.direct.record(direct);
            added.http.record(http);
        }
        room.lm.forget("added");
    }
    drop((client, stop));
    server.end().await;
    added
}
