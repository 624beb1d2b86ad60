//! The longest end of a server.

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get, serve::Listener};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep},
};
use tower_dspy::{
    Shutdown,
    server::{GracefulShutdown, serve},
};

use super::support::secs;

/// Clients that connect without end, all send a request and stay.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<DuplexStream>>>);

impl Listener for Arrivals {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        sleep(Duration::from_millis(1)).await;
        let (mut client, server) = duplex(1024);
        let request = b"GET /stuck HTTP/1.1\r\nhost: h\r\n\r\n";
        client.write_all(request).await.unwrap();
        self.0.lock().unwrap().push(client);
        (server, ())
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_ends_within_its_longest_time_whatever_comes_and_hangs() {
    let app = Router::new().route("/stuck", get(pending::<()>));
    let until = GracefulShutdown::new(Shutdown::new(), secs(3))
        .with_delay(secs(1))
        .with_grace(secs(2))
        .with_signal(std::future::ready(()));
    let arrivals = Arrivals::default();
    let longest = until.max_duration();
    let start = Instant::now();
    let report = serve(arrivals.clone(), app, until).await.unwrap();
    let took = start.elapsed();
    assert!(report.requests.cancelled > 0, "{report}");
    // The runtime's timers are of whole milliseconds.
    let timers = Duration::from_millis(10);
    assert!(took <= longest + timers, "{took:?} of {longest:?}");
    // No part of it is counted that does not take place.
    assert!(took + secs(1) > longest, "{took:?} of {longest:?}");
}
