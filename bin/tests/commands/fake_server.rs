//! A server that says hello and hangs up on the next request, as one that dies at the worst moment.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use metastore_net::{
    FRAME_BYTES_MAX_DEFAULT, FrameKind, HelloInfo, HelloReply, PROTOCOL_VERSION, ServerLimits,
    append_hello, cut_frame,
};

/// Serves one connection; gives the address, and the kind of the request that was left unanswered.
pub(crate) fn hang_up() -> (String, thread::JoinHandle<u16>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the command connects");
        serve(stream)
    });
    (address, served)
}

fn serve(mut stream: TcpStream) -> u16 {
    let mut received = Vec::new();
    loop {
        let frame = cut_frame(&received, FRAME_BYTES_MAX_DEFAULT).expect("frames");
        let Some(frame) = frame else {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).expect("the command sends");
            assert_ne!(count, 0, "the command waits for an answer");
            received.extend_from_slice(&bytes[..count]);
            continue;
        };
        if frame.header.kind != FrameKind::Hello.as_u16() {
            return frame.header.kind;
        }
        let mut answer = Vec::new();
        append_hello(&mut answer, frame.header.request_id, &hello());
        let consumed = frame.consumed_bytes;
        stream.write_all(&answer).expect("the command listens");
        received.drain(..consumed);
    }
}

fn hello() -> HelloReply {
    HelloReply {
        version: PROTOCOL_VERSION,
        info: HelloInfo {
            cluster_id: 1,
            node_id: 1,
            core_index: 0,
            core_count: 1,
            first_port: 1,
            map_epoch: 1,
            server_version: "0".to_owned(),
        },
        limits: ServerLimits::default(),
    }
}
