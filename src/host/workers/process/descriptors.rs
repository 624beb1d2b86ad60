//! The sending of descriptors beside a frame.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::AsFd,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{io::Interest, net::UnixStream};

use super::connection::{DESCRIPTORS, Descriptors};

/// Sends as much of a frame as the socket takes at once, with descriptors beside its first byte;
/// returns how much.
pub(super) async fn send_descriptors(
    socket: &UnixStream,
    frame: &[u8],
    descriptors: &Descriptors,
) -> io::Result<usize> {
    let send = || {
        let descriptors = descriptors.each_ref().map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        if !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("more descriptors than there is room for"));
        }
        let frame = [IoSlice::new(frame)];
        Ok(sendmsg(socket, &frame, &mut attached, SendFlags::NOSIGNAL)?)
    };
    socket.async_io(Interest::WRITABLE, send).await
}
