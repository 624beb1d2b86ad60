//! Answers that come compressed.
//!
//! DSPy asks for `identity`, and what stands before a provider compresses all the same. Decoded here,
//! in the attempt, so that a custom HTTP service needs no decoder of its own, and usage and errors
//! are read as text. The codings are those that DSPy's own client decodes.

use std::{
    io::{self, Write},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status, write::MultiGzDecoder};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body::{Body, Frame};

use super::{LmBody, LmResponse};
use crate::error::{LmFailure, LmFailureKind};

/// How much is decoded at once: it may become a thousand times as much.
const PIECE: usize = 4 * 1024;

/// The answer without its content codings. An unknown coding that the request accepts, by its
/// `accept-encoding`, is left for the client to decode.
///
/// # Errors
/// If a coding is unknown and not accepted, unless the answer's status is an error, which says more
/// than its body.
pub(super) fn decode(
    answer: LmResponse,
    asked: Option<&HeaderValue>,
) -> Result<LmResponse, LmFailure> {
    let asks_for = |coding: &str| {
        let asked = asked.map(HeaderValue::as_bytes).unwrap_or_default();
        let mut codings = asked.split(|byte| matches!(byte, b',' | b';' | b' '));
        codings.any(|asked| asked.eq_ignore_ascii_case(coding.as_bytes()))
    };
    let codings = match codings(answer.headers()) {
        Ok(codings) => codings,
        Err(_) if answer.status().as_u16() >= 400 => return Ok(answer),
        Err(unknown) if asks_for(&unknown) => return Ok(answer),
        Err(unknown) => {
            let message = format!(
                "the answer is encoded as `{unknown}`, which no request asks for; `gzip` and \
                 `deflate` are decoded"
            );
            return Err(LmFailure::new(LmFailureKind::Protocol, message));
        }
    };
    if codings.is_empty() {
        return Ok(answer);
    }
    let (mut head, mut inner) = answer.into_parts();
    head.headers.remove(CONTENT_ENCODING);
    head.headers.remove(CONTENT_LENGTH);
    // The last coding that was applied comes off first.
    for coding in codings.into_iter().rev() {
        inner = LmBody::new(Decoded::new(inner, coding));
    }
    Ok(http::Response::from_parts(head, inner))
}

#[derive(Clone, Copy, Debug)]
enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// The codings in the order in which they were applied, or the name of an unknown one.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, String> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in String::from_utf8_lossy(value.as_bytes()).split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                unknown => return Err(unknown.chars().take(40).collect()),
            }
        }
    }
    Ok(codings)
}

/// A body that is decoded as it is read.
struct Decoded {
    inner: LmBody,
    coding: Coding,
    decoder: Decoder,
    /// What has come and is not decoded yet.
    input: Bytes,
    begun: bool,
    ended: bool,
}

impl Decoded {
    fn new(inner: LmBody, coding: Coding) -> Self {
        Self {
            inner,
            coding,
            decoder: Decoder::new(coding),
            input: Bytes::new(),
            begun: false,
            ended: false,
        }
    }

    fn fail(&mut self, error: &io::Error) -> LmFailure {
        self.ended = true;
        self.input = Bytes::new();
        let coding = self.coding.name();
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let message = format!("the answer ended before its {coding} encoding did");
            LmFailure::new(LmFailureKind::Read, message)
        } else {
            let message = format!("the answer is not the {coding} that its head says it is");
            LmFailure::new(LmFailureKind::Protocol, message)
        }
    }
}

impl Body for Decoded {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tower::BoxError>>> {
        let this = self.get_mut();
        loop {
            let decoded = if !this.input.is_empty() {
                this.begun = true;
                let piece = this.input.split_to(this.input.len().min(PIECE));
                this.decoder.read(&piece)
            } else if this.ended {
                return Poll::Ready(None);
            } else {
                match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            this.input = data;
                            continue;
                        }
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                    Some(Err(error)) => {
                        this.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        this.ended = true;
                        // An answer without a body may name an encoding all the same.
                        if !this.begun {
                            return Poll::Ready(None);
                        }
                        this.decoder.finish()
                    }
                }
            };
            match decoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(error) => return Poll::Ready(Some(Err(this.fail(&error).into()))),
            }
        }
    }
}

enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// With zlib's head, as the standard has it, or without, as some servers send it: that is known
    /// by the first two bytes.
    Deflate {
        first: Vec<u8>,
        inflate: Option<Decompress>,
        ended: bool,
    },
}

impl Decoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(Vec::new())),
            Coding::Deflate => Self::Deflate {
                first: Vec::new(),
                inflate: None,
                ended: false,
            },
        }
    }

    fn read(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                // All that these bytes say is wanted now: they may be an event of a stream.
                decoder.flush()?;
                Ok(mem::take(decoder.get_mut()))
            }
            Self::Deflate {
                first,
                inflate,
                ended,
            } => {
                if let Some(inflate) = inflate {
                    return run(inflate, bytes, ended);
                }
                first.extend_from_slice(bytes);
                let [method, check, ..] = first[..] else {
                    return Ok(Vec::new());
                };
                let zlib =
                    method & 0x0f == 8 && u16::from_be_bytes([method, check]).is_multiple_of(31);
                run(inflate.insert(Decompress::new(zlib)), first, ended)
            }
        }
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(mem::take(decoder.get_mut()))
            }
            Self::Deflate { ended: true, .. } => Ok(Vec::new()),
            Self::Deflate { .. } => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Inflates `bytes`, and notes whether that was the end.
fn run(inflate: &mut Decompress, mut bytes: &[u8], ended: &mut bool) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        out.reserve(PIECE);
        let (read, written) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress_vec(bytes, &mut out, FlushDecompress::None)?;
        let progress = (inflate.total_in() - read, inflate.total_out() - written);
        bytes = bytes
            .get(usize::try_from(progress.0).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        *ended = status == Status::StreamEnd;
        match (*ended, bytes.is_empty()) {
            (true, true) => return Ok(out),
            (true, false) => return Err(io::ErrorKind::InvalidData.into()),
            (false, _) if progress == (0, 0) => return Ok(out),
            (false, _) => {}
        }
    }
}
