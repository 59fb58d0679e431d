//! A socket that has said hello.

use crate::async_client::error::Fault;
use crate::async_client::settings::ClientSettings;
use crate::client::{ClientConnection, ClientOptions};
use crate::frame::RequestId;
use crate::hello::{HelloReply, HelloRequest};
use crate::response::Response;
use crate::wire_error::{ErrorCode, WireError};
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// How a client connects.
#[derive(Debug)]
pub(super) struct Dialing {
    pub(super) settings: ClientSettings,
    /// The cluster that answered first: all others must be the same.
    first_cluster: OnceLock<u128>,
}

impl Dialing {
    pub(super) fn new(settings: ClientSettings) -> Dialing {
        Dialing {
            settings,
            first_cluster: OnceLock::new(),
        }
    }

    /// The cluster that a server must belong to. An address may be given to another store while this client lives; the
    /// server itself refuses us then.
    fn cluster(&self) -> Option<u128> {
        let first = self.first_cluster.get().copied();
        self.settings.cluster_id.or(first)
    }

    fn check(&self, server: &HelloReply) -> Result<(), Fault> {
        let found = server.info.cluster_id;
        let expected = *self.first_cluster.get_or_init(|| found);
        if expected == found {
            return Ok(());
        }
        let error = WireError::new(ErrorCode::WrongCluster);
        let message = format!("this is cluster {found:032x}, not {expected:032x}");
        Err(Fault::Server(error.with_message(message)))
    }
}

/// One connection: the socket, the protocol's end, and how far sending has come.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) connection: ClientConnection,
    pub(super) server: HelloReply,
    /// Bytes of requests that the socket has taken since the beginning.
    pub(super) sent_bytes: u64,
    /// When bytes last came in.
    pub(super) heard_at: Instant,
    read_buffer: Box<[u8]>,
}

impl Wire {
    /// Connects to an address and says hello.
    pub(super) async fn open(address: &str, dialing: &Dialing) -> Result<Wire, Fault> {
        let dial = Wire::dial(address, dialing);
        let result = timeout(dialing.settings.connect_timeout, dial).await;
        result.unwrap_or_else(|_| {
            Err(Fault::Connect {
                address: address.to_owned(),
                source: Arc::new(io::ErrorKind::TimedOut.into()),
            })
        })
    }

    async fn dial(address: &str, dialing: &Dialing) -> Result<Wire, Fault> {
        let settings = &dialing.settings;
        let connected = TcpStream::connect(address).await;
        let stream = connected.map_err(|source| Fault::Connect {
            address: address.to_owned(),
            source: Arc::new(source),
        })?;
        stream.set_nodelay(true)?;
        let mut connection = ClientConnection::new(&ClientOptions {
            frame_bytes_max: settings.frame_bytes_max,
            deadline_ms: 0,
        });
        connection.hello(&HelloRequest::new(&settings.client_name, dialing.cluster()));
        let mut greeting = Greeting {
            stream,
            connection,
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        let server = greeting.exchange().await?;
        dialing.check(&server)?;
        Ok(Wire {
            stream: greeting.stream,
            connection: greeting.connection,
            server,
            sent_bytes: 0,
            heard_at: Instant::now(),
            read_buffer: greeting.read_buffer,
        })
    }

    /// Whether there is something to send.
    pub(super) fn has_outbound(&mut self) -> bool {
        !self.connection.outbound().is_empty()
    }

    /// Sends what the socket takes without waiting.
    pub(super) fn send(&mut self) -> Result<(), Fault> {
        let outbound = self.connection.outbound();
        let mut taken_bytes = 0;
        let result = loop {
            if taken_bytes == outbound.len() {
                break Ok(());
            }
            match self.stream.try_write(&outbound[taken_bytes..]) {
                Ok(0) => break Err(Fault::Closed),
                Ok(count) => taken_bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        outbound.drain(..taken_bytes);
        self.sent_bytes += taken_bytes as u64;
        result
    }

    /// Reads once without waiting, and hands out the answers that are complete with it.
    pub(super) fn receive(
        &mut self,
        on_response: impl FnMut(RequestId, Response<'_>),
    ) -> Result<(), Fault> {
        match self.stream.try_read(&mut self.read_buffer) {
            Ok(0) => Err(Fault::Closed),
            Ok(count) => {
                self.heard_at = Instant::now();
                let bytes = &self.read_buffer[..count];
                Ok(self.connection.on_bytes(bytes, on_response)?)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a connection that rested is as it was left: nothing came, not even its end.
    pub(super) fn is_at_rest(&mut self) -> bool {
        let read = self.stream.try_read(&mut self.read_buffer);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            && self.connection.pending_count() == 0
            && !self.has_outbound()
    }
}

/// A socket between connecting and the answer to its hello.
struct Greeting {
    stream: TcpStream,
    connection: ClientConnection,
    read_buffer: Box<[u8]>,
}

impl Greeting {
    async fn exchange(&mut self) -> Result<HelloReply, Fault> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let hello = std::mem::take(self.connection.outbound());
        self.stream.write_all(&hello).await?;
        let mut answer = None;
        loop {
            let count = self.stream.read(&mut self.read_buffer).await?;
            if count == 0 {
                return Err(Fault::Closed);
            }
            let bytes = &self.read_buffer[..count];
            self.connection
                .on_bytes(bytes, |_, response| answer = Some(hello_of(response)))?;
            if let Some(answer) = answer {
                return answer;
            }
        }
    }
}

fn hello_of(response: Response<'_>) -> Result<HelloReply, Fault> {
    match response {
        Response::Hello(reply) => Ok(reply),
        Response::Error(error) => Err(Fault::Server(error)),
        Response::Pong
        | Response::Get(_)
        | Response::GetMany(_)
        | Response::Command(_)
        | Response::Batch(_)
        | Response::Range(_)
        | Response::Count(_)
        | Response::Cancelled
        | Response::Status(_)
        | Response::ShardMap(_)
        | Response::Admin(_) => {
            unreachable!("the connection matches the kind of each answer to its request")
        }
    }
}
