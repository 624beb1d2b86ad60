//! The host, the LM and the server that are measured.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tower::ServiceBuilder;
use tower_dspy::{
    DeadlineLayer, DeadlineService, DspyService, Host, InboundLayer, Lm, Shutdown,
    inbound::axum::{predict, readiness},
    server::{GracefulShutdown, ServeReport, serve},
    testing::scripted_lm::{Script, ScriptedLm},
};

use crate::support::host;

/// Clients at work while a server ends.
pub(crate) const CLIENTS: usize = 64;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

pub(crate) type Program = DeadlineService<DspyService>;

pub(crate) struct Room {
    pub(crate) host: Host,
    pub(crate) lm: ScriptedLm,
}

impl Room {
    pub(crate) async fn new() -> Self {
        Self {
            host: host().await,
            lm: ScriptedLm::start().await.expect("an LM server"),
        }
    }

    /// A program whose LM does as `script` says.
    pub(crate) async fn program(&self, model: &str, script: impl Into<Script>) -> Program {
        self.lm.script(model, script);
        let lm = Lm::new(format!("openai/{model}")).base_url(self.lm.base_url());
        let load = self.host.load("question -> answer").lm(lm.key("unused"));
        let program = load.max_in_flight(2 * CLIENTS).await.expect("a program");
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(LONG))
            .service(program)
    }
}

/// A server of one program, as a user writes it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    served: JoinHandle<std::io::Result<ServeReport>>,
}

impl Server {
    /// On a port that is free, or on that of a server before it. It ends at SIGTERM, or as `until`
    /// says; `accepted` hears of each connection.
    pub(crate) fn start(
        port: u16,
        program: Program,
        until: impl FnOnce(GracefulShutdown) -> GracefulShutdown,
        mut accepted: impl FnMut(SocketAddr) + Send + 'static,
    ) -> Self {
        let shutdown = Shutdown::new();
        let ready = shutdown.clone();
        let app = Router::new()
            .route("/qa", predict(program))
            .route("/readyz", readiness(move || ready.is_ready()))
            .layer(InboundLayer::new().max(LONG));
        let listener = listen(port);
        let address = listener.local_addr().expect("an address");
        let listener = listener.tap_io(move |io: &mut TcpStream| {
            let _ = io.set_nodelay(true);
            if let Ok(peer) = io.peer_addr() {
                accepted(peer);
            }
        });
        let until = until(GracefulShutdown::new(shutdown, LONG));
        let served = tokio::spawn(async move { serve(listener, app, until).await });
        Self { address, served }
    }

    pub(crate) async fn end(self) -> ServeReport {
        let served = self.served.await.expect("a server that does not panic");
        served.expect("a handler for signals")
    }
}

fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    // As every server that is to be restarted.
    socket.set_reuseaddr(true).expect("an option");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket.bind(address).expect("the port");
    socket.listen(1024).expect("a listener")
}
