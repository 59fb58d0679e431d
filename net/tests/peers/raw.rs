//! Ends that do what no core would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use metastore_net::peer::{
    PEER_ANSWER_BYTES, PEER_HELLO_BYTES, PeerAnswer, PeerHello, PeerLane, PeerVerdict, RefusalCode,
    append_batch_head,
};

use crate::harness::{PATIENCE, TestCore, local_of, own_host};

/// A batch behind its head.
pub(crate) fn framed(batch: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_batch_head(batch.len(), &mut bytes);
    bytes.extend_from_slice(batch);
    bytes
}

/// The hello of the first core of a node to a core.
pub(crate) fn hello_from(node: u32, to: &TestCore, lane: PeerLane) -> PeerHello {
    PeerHello::new(local_of(node), to.core, lane)
}

/// The sender's end of a connection.
pub(crate) struct RawSender {
    pub(crate) stream: TcpStream,
}

impl RawSender {
    pub(crate) fn connect(to: &TestCore) -> RawSender {
        let stream = TcpStream::connect(to.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        RawSender { stream }
    }

    /// A connection that was accepted.
    pub(crate) fn open(node: u32, to: &TestCore, lane: PeerLane) -> RawSender {
        let mut sender = RawSender::connect(to);
        sender.write(&hello_from(node, to, lane).encode());
        let answer = sender.answer();
        let accepted = PeerVerdict::Accepted { version: 1 };
        assert_eq!(answer.verdict, accepted);
        assert_eq!(answer.receiver.core, to.core);
        sender
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn answer(&mut self) -> PeerAnswer {
        let mut bytes = [0; PEER_ANSWER_BYTES];
        self.stream.read_exact(&mut bytes).unwrap();
        PeerAnswer::decode(&bytes).unwrap()
    }

    /// Says this and is refused for that.
    pub(crate) fn assert_refused(mut self, code: RefusalCode) {
        assert_eq!(self.answer().verdict, PeerVerdict::Refused(code));
        self.assert_ended();
    }

    /// The other end closes, and says nothing more.
    pub(crate) fn assert_ended(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, [], "it says more"),
            // What it did not read makes the kernel say it like this.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// The receiver's end of connections, as the first core of a node.
pub(crate) struct RawReceiver {
    listener: TcpListener,
    node: u32,
}

impl RawReceiver {
    pub(crate) fn new(node: u32) -> RawReceiver {
        let listener = TcpListener::bind((own_host(), 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        RawReceiver { listener, node }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection and its hello.
    pub(crate) fn accept(&self) -> (TcpStream, PeerHello) {
        let began = Instant::now();
        let mut stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(began.elapsed() < PATIENCE, "nobody connects");
            std::thread::sleep(Duration::from_millis(1));
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut hello = [0; PEER_HELLO_BYTES];
        stream.read_exact(&mut hello).unwrap();
        (stream, PeerHello::decode(&hello).unwrap())
    }

    /// The next connection, accepted.
    pub(crate) fn open(&self) -> TcpStream {
        let (mut stream, hello) = self.accept();
        assert_eq!(hello.check(&local_of(self.node)), Ok(1));
        stream.write_all(&self.consent().encode()).unwrap();
        stream
    }

    pub(crate) fn consent(&self) -> PeerAnswer {
        PeerAnswer::new(local_of(self.node), PeerVerdict::Accepted { version: 1 })
    }
}
