//! Frames to and from a zygote, and the descriptors that travel with them. Python's side is
//! `zygote.py`.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use bytes::{BufMut, Bytes, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::Interest,
    net::{UnixStream, unix::OwnedWriteHalf},
};

use crate::host::workers::{handshake::Hello, numbers::WorkerId};

/// A worker's socket, stdout and stderr.
pub(super) type Descriptors = [OwnedFd; DESCRIPTORS];
const DESCRIPTORS: usize = 3;

/// A message to a zygote.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToZygote<'a> {
    Hello(Hello<'a>),
    Fork { worker: WorkerId },
    Reap { pid: u32 },
}

/// A message from a zygote.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromZygote {
    Warm {
        weaker: Vec<String>,
    },
    CannotFork {
        reason: String,
    },
    Unusable {
        fault: Value,
    },
    Forked {
        worker: WorkerId,
        pid: u32,
    },
    NotForked {
        worker: WorkerId,
        reason: String,
    },
    /// By an exit with this status, or by this signal.
    Ended {
        worker: WorkerId,
        exited: bool,
        status: i32,
    },
    Log {
        level: u32,
        logger: String,
        message: String,
    },
}

/// Sends a frame, with descriptors beside its first byte.
pub(super) async fn send_frame(
    write: &OwnedWriteHalf,
    frame: &Bytes,
    descriptors: Option<&Descriptors>,
) -> io::Result<()> {
    let mut whole = BytesMut::with_capacity(4 + frame.len());
    whole.put_u32(u32::try_from(frame.len()).map_err(io::Error::other)?);
    whole.put_slice(frame);
    let stream = write.as_ref();
    let mut descriptors = descriptors.map_or(&[][..], |three| &three[..]);
    let mut sent = 0;
    while sent < whole.len() {
        let rest = &whole[sent..];
        let send = || send_some(stream, rest, descriptors);
        sent += stream.async_io(Interest::WRITABLE, send).await?;
        descriptors = &[];
    }
    Ok(())
}

/// Sends as much as the socket takes at once.
fn send_some(stream: &UnixStream, rest: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("more descriptors than there is room for"));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(rest)],
        &mut attached,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}
