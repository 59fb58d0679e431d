//! One call of gRPC on a stream of HTTP/2: a request of one message, and an answer of one.
//!
//! ```text
//!   0        1        2        3        4        5 ...
//! | zero   | length, big-endian                | message ...
//! ```
//!
//! The first byte would say that the message is compressed, which is neither sent nor taken. Whether the call went
//! well stands in the header `grpc-status`, which comes behind the message, or at once and without any.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method as HttpMethod, Request as HttpRequest, StatusCode, Uri};

use super::super::{Puts, Request};
use super::message;
use crate::operation::Failure;

/// What stands before a message.
const HEAD_BYTES: usize = 5;

/// The longest answer that is taken: far above a page of the largest values.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Longer than any measurement, so that nothing is written when it ends.
const LEASE_SECONDS: u64 = 24 * 3_600;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What was called, and so how its answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    Put,
    Get,
    List,
    Swap,
    Batch,
    LeaseGrant,
}

/// An answer on its way.
#[derive(Debug)]
pub(super) enum Answering {
    /// Nothing of it has come.
    Awaited(ResponseFuture),
    /// Its headers have.
    Body { stream: RecvStream, bytes: Vec<u8> },
}

/// A message with its head, as it is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) called: Called,
    pub(super) body: Bytes,
}

impl Outgoing {
    /// The call for a request.
    pub(super) fn new(request: &Request<'_>) -> Outgoing {
        let mut out = vec![0; HEAD_BYTES];
        let called = append_message(&mut out, request);
        let length = u32::try_from(out.len() - HEAD_BYTES).expect("requests are short");
        // The byte order of gRPC, most significant first.
        let [b0, b1, b2, b3] = length.to_le_bytes();
        out[1..HEAD_BYTES].copy_from_slice(&[b3, b2, b1, b0]);
        Outgoing {
            called,
            body: out.into(),
        }
    }
}

fn append_message(out: &mut Vec<u8>, request: &Request<'_>) -> Called {
    match *request {
        Request::Put { key, value } => {
            message::append_put(out, key, value);
            Called::Put
        }
        Request::Get { key } => {
            message::append_get(out, key);
            Called::Get
        }
        Request::List(page) => {
            message::append_page(out, &page);
            Called::List
        }
        Request::CompareAndSwap {
            key,
            value,
            revision,
        } => {
            message::append_swap(out, key, value, revision);
            Called::Swap
        }
        Request::Batch(puts) => {
            out.reserve(batch_bytes(&puts));
            message::append_puts(out, &puts);
            Called::Batch
        }
        Request::WriteNoKey => {
            message::append_lease_grant(out, LEASE_SECONDS);
            Called::LeaseGrant
        }
        Request::Ping => panic!("etcd is not asked for what it lacks: {request:?}"),
    }
}

/// What a batch takes at most, with keys and values of less than 2 MiB.
fn batch_bytes(puts: &Puts<'_>) -> usize {
    const HEADS_BYTES: usize = 4 * 4;
    puts.iter()
        .map(|(key, value)| HEADS_BYTES + key.len() + value.len())
        .sum()
}

impl Called {
    /// The headers of its request.
    pub(super) fn http_request(self) -> HttpRequest<()> {
        let mut request = HttpRequest::new(());
        *request.method_mut() = HttpMethod::POST;
        *request.uri_mut() = Uri::from_static(match self {
            Called::Put => "http://etcd/etcdserverpb.KV/Put",
            Called::Get | Called::List => "http://etcd/etcdserverpb.KV/Range",
            Called::Swap | Called::Batch => "http://etcd/etcdserverpb.KV/Txn",
            Called::LeaseGrant => "http://etcd/etcdserverpb.Lease/LeaseGrant",
        });
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        request
    }
}

impl Answering {
    /// Goes on as far as bytes have come. Ready with the message, or with the reason why there is none.
    pub(super) fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<u8>, Failure>> {
        if let Answering::Awaited(response) = self {
            let response = match ready!(Pin::new(response).poll(context)) {
                Ok(response) => response,
                Err(error) => return Poll::Ready(Err(broken_off(&error))),
            };
            if response.status() != StatusCode::OK {
                let status = u32::from(response.status().as_u16());
                return Poll::Ready(Err(Failure::EtcdHttp { status }));
            }
            if response.headers().contains_key(GRPC_STATUS) {
                let failure = read_status(response.headers()).err();
                return Poll::Ready(Err(failure.unwrap_or(Failure::Mismatch)));
            }
            *self = Answering::Body {
                stream: response.into_body(),
                bytes: Vec::new(),
            };
        }
        let Answering::Body { stream, bytes } = self else {
            unreachable!("headers have come");
        };
        while let Some(piece) = ready!(stream.poll_data(context)) {
            let taken = piece.and_then(|piece| {
                bytes.extend_from_slice(&piece);
                stream.flow_control().release_capacity(piece.len())
            });
            if let Err(error) = taken {
                return Poll::Ready(Err(broken_off(&error)));
            }
            if bytes.len() > ANSWER_BYTES_MAX {
                return Poll::Ready(Err(Failure::Mismatch));
            }
        }
        let trailers = match ready!(stream.poll_trailers(context)) {
            Ok(trailers) => trailers.unwrap_or_default(),
            Err(error) => return Poll::Ready(Err(broken_off(&error))),
        };
        Poll::Ready(read_status(&trailers).map(|()| std::mem::take(bytes)))
    }
}

fn broken_off(error: &h2::Error) -> Failure {
    Failure::EtcdStream {
        message: error.to_string(),
    }
}

/// Whether the call went well.
fn read_status(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| {
        let value: Option<&HeaderValue> = headers.get(name);
        value.map_or("", |value| value.to_str().unwrap_or(""))
    };
    match text(GRPC_STATUS).parse() {
        Ok(0) => Ok(()),
        Ok(status) => Err(Failure::Etcd {
            status,
            message: text(GRPC_MESSAGE).to_owned(),
        }),
        Err(_) => Err(Failure::Mismatch),
    }
}

/// The only message of an answer.
pub(super) fn only_message(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_first_chunk::<HEAD_BYTES>()?;
    let [0, b3, b2, b1, b0] = *head else {
        return None;
    };
    let length = u32::from_le_bytes([b0, b1, b2, b3]);
    (message.len() == length as usize).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_alone_and_whole() {
        let golden = [0, 0, 0, 1, 2];
        let mut body = golden.to_vec();
        body.extend([7; 258]);
        assert_eq!(only_message(&body), Some(&[7; 258][..]));
        for end in 0..body.len() {
            assert_eq!(only_message(&body[..end]), None);
        }
        body.push(0);
        assert_eq!(only_message(&body), None, "another begins");
        let compressed = [1, 0, 0, 0, 0];
        assert_eq!(only_message(&compressed), None);
    }

    #[test]
    fn a_status_is_zero_or_a_failure() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            read_status(&pairs.collect())
        };
        assert_eq!(read(&[("grpc-status", "0")]), Ok(()));
        let full = read(&[("grpc-status", "8"), ("grpc-message", "no space")]);
        let expected = Failure::Etcd {
            status: 8,
            message: "no space".to_owned(),
        };
        assert_eq!(full, Err(expected));
        assert_eq!(read(&[]), Err(Failure::Mismatch));
        assert_eq!(read(&[("grpc-status", "x")]), Err(Failure::Mismatch));
    }

    #[test]
    fn a_call_has_its_path_and_its_message_behind_a_head() {
        let outgoing = Outgoing::new(&Request::Put {
            key: b"k",
            value: b"v",
        });
        assert_eq!(&outgoing.body[..], b"\0\0\0\0\x06\x0a\x01k\x12\x01v");
        let request = outgoing.called.http_request();
        assert_eq!(request.uri().path(), "/etcdserverpb.KV/Put");
        assert_eq!(request.headers()["te"], "trailers");
    }
}
