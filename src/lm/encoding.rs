//! The decoding of answers that come compressed.
//!
//! DSPy asks for `identity`, and what stands before a provider compresses all the same. Decoded here,
//! in the attempt, so that a custom HTTP service needs no decoder of its own, and usage and errors
//! are read as text. The codings are those that DSPy's own client decodes.

use std::{
    io::{self, Write},
    mem,
};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status, write::MultiGzDecoder};
use futures_util::stream::try_unfold;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::BoxError;

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
    for decoder in codings.into_iter().rev() {
        let decoding = DecodedBody {
            inner: Some(inner),
            decoder,
            input: Bytes::new(),
        };
        inner = LmBody::new(StreamBody::new(try_unfold(decoding, DecodedBody::next)));
    }
    Ok(http::Response::from_parts(head, inner))
}

/// The decoders of the codings in the order in which they were applied, or the name of an unknown one.
fn codings(headers: &HeaderMap) -> Result<Vec<BodyDecoder>, String> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in String::from_utf8_lossy(value.as_bytes()).split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => codings.push(BodyDecoder::Gzip(None)),
                "deflate" => codings.push(BodyDecoder::Deflate {
                    inflate: None,
                    ended: false,
                }),
                unknown => return Err(unknown.chars().take(40).collect()),
            }
        }
    }
    Ok(codings)
}

/// A body that is decoded as it is read.
struct DecodedBody {
    /// Gone once it has ended.
    inner: Option<LmBody>,
    decoder: BodyDecoder,
    /// What has come and is not decoded yet.
    input: Bytes,
}

impl DecodedBody {
    /// The next frame, and what follows it.
    async fn next(mut self) -> Result<Option<(Frame<Bytes>, Self)>, BoxError> {
        loop {
            let decoded = if !self.input.is_empty() {
                let piece = self.input.split_to(self.input.len().min(PIECE));
                self.decoder.read(&piece)
            } else {
                let Some(inner) = &mut self.inner else {
                    return Ok(None);
                };
                match inner.frame().await.transpose()?.map(Frame::into_data) {
                    Some(Ok(data)) => {
                        self.input = data;
                        continue;
                    }
                    Some(Err(trailers)) => return Ok(Some((trailers, self))),
                    None => {
                        self.inner = None;
                        self.decoder.finish()
                    }
                }
            };
            let bytes = decoded.map_err(|error| self.decoder.failure(&error))?;
            if !bytes.is_empty() {
                return Ok(Some((Frame::data(bytes.into()), self)));
            }
        }
    }
}

/// A decoder, made at the first byte: an answer without a body may name a coding all the same.
enum BodyDecoder {
    Gzip(Option<Box<MultiGzDecoder<Vec<u8>>>>),
    Deflate {
        inflate: Option<Decompress>,
        ended: bool,
    },
}

impl BodyDecoder {
    /// Decodes `bytes`, of which there is one at least.
    fn read(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                let decoder =
                    decoder.get_or_insert_with(|| Box::new(MultiGzDecoder::new(Vec::new())));
                decoder.write_all(bytes)?;
                // All that these bytes say is wanted now: they may be an event of a stream.
                decoder.flush()?;
                Ok(mem::take(decoder.get_mut()))
            }
            Self::Deflate { inflate, ended } => {
                // With zlib's head, as the standard has it, or without, as some servers send it:
                // without, these bits are those of a block that no encoder writes.
                let has_head = bytes.first().is_some_and(|first| first & 0x0f == 8);
                let inflate = inflate.get_or_insert_with(|| Decompress::new(has_head));
                run(inflate, bytes, ended)
            }
        }
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(Some(decoder)) => {
                decoder.try_finish()?;
                Ok(mem::take(decoder.get_mut()))
            }
            Self::Deflate {
                inflate: Some(_),
                ended: false,
            } => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Vec::new()),
        }
    }

    /// The failure of an answer that cannot be decoded.
    fn failure(&self, error: &io::Error) -> LmFailure {
        let coding = match self {
            Self::Gzip(_) => "gzip",
            Self::Deflate { .. } => "deflate",
        };
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let message = format!("the answer ended before its {coding} encoding did");
            LmFailure::new(LmFailureKind::Read, message)
        } else {
            let message = format!("the answer is not the {coding} that its head says it is");
            LmFailure::new(LmFailureKind::Protocol, message)
        }
    }
}

/// Inflates `bytes`, and notes whether that was the end.
fn run(inflate: &mut Decompress, mut bytes: &[u8], ended: &mut bool) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        out.reserve(PIECE);
        let before = inflate.total_in();
        let status = inflate.decompress_vec(bytes, &mut out, FlushDecompress::None)?;
        bytes = &bytes[(inflate.total_in() - before) as usize..];
        if status == Status::StreamEnd {
            *ended = true;
            return match bytes.is_empty() {
                true => Ok(out),
                false => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        // There was room for more.
        if out.len() < out.capacity() {
            return Ok(out);
        }
    }
}
