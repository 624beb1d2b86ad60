//! Whether a TCP connection to an address can be made.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use http::Uri;
use tokio::time::timeout;

use crate::host::core::runtime;

/// The longest time of a look-up of a name with the connection to its addresses.
const LIMIT: Duration = Duration::from_secs(5);

/// Connects to the host of `url`, and closes the connection.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn reach(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is no URL"))?;
    let host = uri.host().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("http") => 80,
        _ => 443,
    });
    // On threads that may wait: the look-up of a name has no limit of its own.
    let runtime = runtime::handle()?;
    let connected = runtime.spawn(async move {
        timeout(
            LIMIT,
            tokio::task::spawn_blocking(move || connect(&host, port)),
        )
        .await
    });
    match connected.await {
        Ok(Ok(Ok(connected))) => connected.map_err(|error| error.to_string()),
        Ok(Ok(Err(error))) | Err(error) => Err(error.to_string()),
        Ok(Err(_)) => Err(format!("no connection within {LIMIT:?}")),
    }
}

fn connect(host: &str, port: u16) -> io::Result<()> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(_) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_is_reached_if_something_listens_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        assert_eq!(reach(&format!("http://{address}/v1")).await, Ok(()));

        // Bound and not listening: the port is given to nobody else.
        let bound = TcpSocket::new_v4().expect("a socket");
        let any = "127.0.0.1:0".parse().expect("an address");
        bound.bind(any).expect("a port");
        let address = bound.local_addr().expect("an address");
        let refused = reach(&format!("http://{address}/v1")).await;
        let refused = refused.expect_err("nobody listens");
        assert!(refused.contains("refused"), "{refused}");
        assert!(reach("not a url").await.is_err());
    }
}
