//! A client over plain TCP that reports the outcome of each request.

use std::{io, net::SocketAddr, time::Duration};

use http::StatusCode;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::support::SOON;

pub(crate) const ASK: &str = "POST /qa HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                              content-length: 15\r\n\r\n{\"question\":\"\"}";

/// How long a server that stops leaves its idle connections open.
const LINGER: Duration = Duration::from_millis(250);

/// A connection that the server keeps open.
pub(crate) struct Kept {
    stream: TcpStream,
    /// Just before the last request on it was sent.
    asked: Instant,
}

/// What a request came to.
#[derive(Debug)]
pub(crate) enum Asked {
    Answered(StatusCode),
    /// The server takes no connections.
    Refused,
    /// It was sent, and there is no whole answer.
    Lost {
        /// The connection was new: it may be that the server never had it.
        first: bool,
        /// The connection was idle for so long that a server which stops closes it.
        late: bool,
        /// For whoever prints it.
        #[expect(dead_code, reason = "printed, not read")]
        error: io::Error,
    },
}

/// Asks on the connection that was kept, or on a new one, which is kept if the server lets it.
pub(crate) async fn ask(server: SocketAddr, kept: &mut Option<Kept>) -> Asked {
    let there = kept.take().filter(|kept| is_open(&kept.stream));
    let before = there.as_ref().map(|kept| kept.asked);
    let stream = match there {
        Some(kept) => kept.stream,
        None => match TcpStream::connect(server).await {
            Ok(stream) => stream,
            Err(_) => return Asked::Refused,
        },
    };
    match timeout(SOON, exchange(stream)).await.expect("no answer") {
        Ok((status, stream)) => {
            *kept = stream;
            Asked::Answered(status)
        }
        Err(error) => Asked::Lost {
            first: before.is_none(),
            late: before.is_some_and(|asked| asked.elapsed() >= LINGER),
            error,
        },
    }
}

/// Nothing can be there to read but the end.
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn exchange(stream: TcpStream) -> io::Result<(StatusCode, Option<Kept>)> {
    let mut stream = BufReader::new(stream);
    let asked = Instant::now();
    stream.write_all(ASK.as_bytes()).await?;
    let (mut status, mut length, mut closes) = (None, 0, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest.get(..3).and_then(|code| code.parse().ok());
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        } else if line == "connection: close" {
            closes = true;
        } else if line.is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let stream = stream.into_inner();
    Ok((status, (!closes).then_some(Kept { stream, asked })))
}
