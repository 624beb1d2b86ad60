//! A client of HTTP/2 that writes its frames by hand.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::support::SOON;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
pub(crate) const CANCEL: [u8; 4] = [0, 0, 0, 8];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a POST, in HPACK without its dynamic table.
pub(crate) fn post(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // Of the static table: `:method: POST`, `:scheme: http`.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(":path", path), (":authority", "h")].iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A whole request of `/qa`.
pub(crate) fn ask(stream: u32) -> Vec<u8> {
    let headers = post("/qa", &[("content-type", "application/json")]);
    let mut request = frame(HEADERS, END_HEADERS, stream, &headers);
    request.extend(frame(DATA, END_STREAM, stream, b"{\"question\":\"\"}"));
    request
}

/// The stream of the `n`th request of a client.
pub(crate) const fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// By GOAWAY with this error.
    GoAway(u32),
    Closed,
}

pub(crate) struct Frames {
    reader: OwnedReadHalf,
    pub(crate) writer: OwnedWriteHalf,
}

impl Frames {
    pub(crate) async fn connect(server: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(server).await.expect("a connection");
        let (reader, mut writer) = stream.into_split();
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        opening.extend(frame(SETTINGS, 0, 0, &settings));
        // Of the connection; those of the streams are set.
        opening.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        writer.write_all(&opening).await.expect("a server");
        Self { reader, writer }
    }

    pub(crate) async fn send(&mut self, frames: &[u8]) {
        self.writer.write_all(frames).await.expect("a server");
    }

    /// The next frame: its kind, its stream and its payload.
    pub(crate) async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        next(&mut self.reader).await
    }

    /// The writer, and a future that reads to the end of the connection.
    pub(crate) fn split(self) -> (OwnedWriteHalf, impl Future<Output = ConnectionEnd>) {
        let Self { mut reader, writer } = self;
        (writer, async move { end(&mut reader).await })
    }

    /// Reads to the end of the connection.
    pub(crate) async fn end(self) -> ConnectionEnd {
        // The server may wait for the client to close its side too.
        let (mut reader, _writer) = (self.reader, self.writer);
        let end = timeout(SOON, end(&mut reader)).await;
        end.expect("the server did not close")
    }

    /// Sends `frames(0)`, `frames(1)` and so on until the server closes, and reads meanwhile.
    pub(crate) async fn flood(self, mut frames: impl FnMut(u32) -> Vec<u8>) -> ConnectionEnd {
        let (mut reader, mut writer) = (self.reader, self.writer);
        let write = async {
            for n in 0.. {
                if writer.write_all(&frames(n)).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = end(&mut reader) => end,
            () = write => unreachable!("it is pending"),
        }
    }

    /// The same, which the server is to end soon.
    pub(crate) async fn end_of_flood(self, frames: impl FnMut(u32) -> Vec<u8>) -> ConnectionEnd {
        let end = timeout(SOON, self.flood(frames)).await;
        end.expect("the server suffers it for ever")
    }
}

async fn next(reader: &mut OwnedReadHalf) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, _, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    reader.read_exact(&mut payload).await.ok()?;
    Some((kind, u32::from_be_bytes(stream), payload))
}

async fn end(reader: &mut OwnedReadHalf) -> ConnectionEnd {
    let mut end = ConnectionEnd::Closed;
    while let Some((kind, _, payload)) = next(reader).await {
        if kind == GOAWAY {
            let code = payload[4..8].try_into().expect("four bytes");
            end = ConnectionEnd::GoAway(u32::from_be_bytes(code));
        }
    }
    end
}
