//! The sending of descriptors beside a frame.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::AsFd,
};

use bytes::{BufMut, Bytes, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{UnixStream, unix::OwnedWriteHalf},
};

use super::connection::{DESCRIPTORS, Descriptors};

/// Sends a frame, with descriptors beside its first byte.
pub(super) async fn send_frame(
    write: &mut OwnedWriteHalf,
    frame: &Bytes,
    descriptors: &Descriptors,
) -> io::Result<()> {
    let mut whole = BytesMut::with_capacity(4 + frame.len());
    whole.put_u32(u32::try_from(frame.len()).map_err(io::Error::other)?);
    whole.put_slice(frame);
    let stream: &UnixStream = write.as_ref();
    let send = || send_some(stream, &whole, descriptors);
    let sent = stream.async_io(Interest::WRITABLE, send).await?;
    write.write_all(&whole[sent..]).await
}

/// Sends as much as the socket takes at once.
fn send_some(stream: &UnixStream, whole: &[u8], descriptors: &Descriptors) -> io::Result<usize> {
    let descriptors = descriptors.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("more descriptors than there is room for"));
    }
    let whole = [IoSlice::new(whole)];
    Ok(sendmsg(stream, &whole, &mut attached, SendFlags::NOSIGNAL)?)
}
