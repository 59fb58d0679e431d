//! The abusers: each breaks one rule, on a thread of its own, again and again until it is told to stop.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use metastore_net::{Consistency, GetRequest};
use metastore_statemachine::{GetQuery, NamespaceId};
use serde::Serialize;

use super::wire::{bytes_of, is_timeout, open, open_greeted};

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;
/// The key that unread answers are made of.
const LARGE_KEY: &[u8] = b"/abuse/large";
const LARGE_VALUE_BYTES: usize = 64 << 10;
/// Connections of each kind that stay open for long.
const SLOW_CONNECTIONS: usize = 50;
const UNREAD_CONNECTIONS: usize = 5;
/// How often those come again that are thrown out at once.
const RETURN_PAUSE: Duration = Duration::from_millis(20);
/// A byte a second, in steps that end soon when told to stop.
const DRIP_STEPS: u32 = 10;
const DRIP_STEP: Duration = Duration::from_millis(100);

/// What the abusers have done.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct AbuseCounts {
    /// Bytes of answers to the client at full rate.
    pub(super) full_rate_answer_bytes: u64,
    /// Connections that were thrown out or given up.
    pub(super) connections_ended: u64,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    full_rate_answer_bytes: AtomicU64,
    connections_ended: AtomicU64,
}

/// Abusers at work.
#[derive(Debug)]
pub(super) struct Abusers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Abusers {
    /// Sets all of them on a core of the store.
    pub(super) fn start(address: SocketAddr) -> Abusers {
        let shared = Arc::new(Shared::default());
        let kinds: [fn(SocketAddr, &Shared); 5] = [
            send_what_is_no_frame,
            drip,
            leave_frames_unfinished,
            leave_answers_unread,
            ask_at_full_rate,
        ];
        let threads = kinds.into_iter().map(|abuse| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                while !shared.is_over() {
                    abuse(address, &shared);
                    thread::sleep(RETURN_PAUSE);
                }
            })
        });
        Abusers {
            threads: threads.collect(),
            shared,
        }
    }

    /// Ends all of them, and tells what they have done.
    pub(super) fn stop(self) -> AbuseCounts {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // One that panicked has stopped, too.
            let _ended = thread.join();
        }
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AbuseCounts {
            full_rate_answer_bytes: load(&self.shared.full_rate_answer_bytes),
            connections_ended: load(&self.shared.connections_ended),
        }
    }
}

impl AbuseCounts {
    pub(super) fn words(&self) -> String {
        format!(
            "{} bytes of answers at full rate, {} connections ended",
            self.full_rate_answer_bytes, self.connections_ended
        )
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn note_ended(&self, connections: usize) {
        let connections = connections as u64;
        self.connections_ended
            .fetch_add(connections, Ordering::Relaxed);
    }
}

/// Garbage, a damaged checksum, an absurd length and a request before hello, each on a connection of its own.
fn send_what_is_no_frame(address: SocketAddr, shared: &Shared) {
    let ping = bytes_of(|connection| {
        connection.ping();
    });
    let mut damaged = ping.clone();
    damaged[28] ^= 1;
    let mut absurd = ping.clone();
    absurd[15] = 0xff;
    for (bytes, is_greeted) in [
        (vec![b'G'; 50_000], false),
        (damaged, true),
        (absurd, true),
        (ping, false),
    ] {
        let opened = if is_greeted {
            open_greeted(address)
        } else {
            open(address)
        };
        let Ok(mut stream) = opened else {
            continue;
        };
        let _sent = stream.write_all(&bytes);
        let _answer = stream.read(&mut [0; 4096]);
        shared.note_ended(1);
    }
}

/// Sends frames at a byte a second.
fn drip(address: SocketAddr, shared: &Shared) {
    let frame = bytes_of(|connection| {
        connection.put(NAMESPACE, b"/abuse/drip", &[7; 4_000]);
    });
    let mut streams = open_many(address, SLOW_CONNECTIONS);
    for byte in &frame {
        streams.retain_mut(|stream| match stream.write_all(&[*byte]) {
            Ok(()) => true,
            Err(_) => {
                shared.note_ended(1);
                false
            }
        });
        for _ in 0..DRIP_STEPS {
            if shared.is_over() || streams.is_empty() {
                return;
            }
            thread::sleep(DRIP_STEP);
        }
    }
}

/// Sends most of a large frame and waits to be thrown out.
fn leave_frames_unfinished(address: SocketAddr, shared: &Shared) {
    let frame = bytes_of(|connection| {
        connection.put(NAMESPACE, b"/abuse/half", &vec![7; 1 << 20]);
    });
    let mut streams = open_many(address, SLOW_CONNECTIONS);
    for stream in &mut streams {
        // What the socket does not take, the store does not read.
        let _sent = stream.write_all(&frame[..frame.len() / 2]);
    }
    wait_for_ends(streams, shared);
}

/// Asks for many large answers and reads none.
fn leave_answers_unread(address: SocketAddr, shared: &Shared) {
    let Ok(mut writer) = open_greeted(address) else {
        return;
    };
    let put = bytes_of(|connection| {
        connection.put(NAMESPACE, LARGE_KEY, &vec![7; LARGE_VALUE_BYTES]);
    });
    let _sent = writer.write_all(&put);
    let questions = bytes_of(|connection| {
        for _ in 0..1_000 {
            connection.get(&GetRequest {
                query: GetQuery {
                    namespace: NAMESPACE,
                    key: LARGE_KEY,
                    at: None,
                },
                consistency: Consistency::Linearizable,
            });
        }
    });
    let mut streams = open_many(address, UNREAD_CONNECTIONS);
    for stream in &mut streams {
        let _sent = stream.write_all(&questions);
    }
    while !shared.is_over() {
        // Reading would be the opposite of what is meant; that a connection is closed shows in writing.
        streams.retain_mut(|stream| match stream.write_all(&questions) {
            Ok(()) => true,
            Err(error) if is_timeout(&error) => true,
            Err(_) => {
                shared.note_ended(1);
                false
            }
        });
        if streams.is_empty() {
            return;
        }
    }
}

/// Puts small values as fast as the store takes them, with as many in flight as it allows.
fn ask_at_full_rate(address: SocketAddr, shared: &Shared) {
    let Ok(mut stream) = open_greeted(address) else {
        return;
    };
    let puts = bytes_of(|connection| {
        for number in 0..1_000_u32 {
            let key = format!("/abuse/full-rate/{number}");
            connection.put(NAMESPACE, key.as_bytes(), &[7; 64]);
        }
    });
    let Ok(mut reader) = stream.try_clone() else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = vec![0; 256 << 10];
            while !shared.is_over() {
                match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => {
                        let answers = &shared.full_rate_answer_bytes;
                        answers.fetch_add(count as u64, Ordering::Relaxed);
                    }
                    Err(error) if is_timeout(&error) => {}
                    Err(_) => return,
                }
            }
        });
        let mut sent_bytes = 0;
        while !shared.is_over() {
            match stream.write(&puts[sent_bytes..]) {
                Ok(count) => sent_bytes = (sent_bytes + count) % puts.len(),
                Err(error) if is_timeout(&error) => {}
                Err(_) => break,
            }
        }
        let _closed = stream.shutdown(std::net::Shutdown::Both);
    });
}

fn open_many(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let streams = (0..count).map(|_| open_greeted(address));
    streams.collect::<io::Result<_>>().unwrap_or_default()
}

/// Waits until the store has closed all of them, or it is over.
fn wait_for_ends(mut streams: Vec<TcpStream>, shared: &Shared) {
    while !shared.is_over() && !streams.is_empty() {
        let before = streams.len();
        streams.retain_mut(|stream| {
            let mut word = [0; 4096];
            // A last word comes before the end.
            stream.set_nonblocking(true).is_ok()
                && match stream.read(&mut word) {
                    Ok(count) => count > 0,
                    Err(error) => is_timeout(&error),
                }
        });
        shared.note_ended(before - streams.len());
        thread::sleep(DRIP_STEP);
    }
}
