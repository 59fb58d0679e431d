//! A byte for every core, again and again, so that none sleeps for ever.
//!
//! An executor of glommio 0.9 was seen asleep with its timers run out, on nodes of several cores that started on a busy
//! machine: the ring that holds its timers is watched by the ring that it sleeps on, and once in some hundred starts
//! nothing came through. Whatever wakes the second ring lets it see the first, so each core reads from a socket in
//! the task queue that uses the second, and a thread of its own writes to it.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use futures_lite::AsyncReadExt;
use metastore_net::server::adopt_stream;

/// A core that was lost sleeps no longer than this. It is the length of a raft tick.
const INTERVAL: Duration = Duration::from_millis(50);

/// The writing ends.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    cores: Vec<UnixStream>,
}

impl Pulse {
    /// A socket for one more core; the end that it must [`feel`].
    pub(crate) fn add_core(&mut self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        // A core that is busy has bytes enough to read: nobody waits for it.
        ours.set_nonblocking(true)?;
        self.cores.push(ours);
        Ok(theirs)
    }

    /// Writes to every core until all of them are gone.
    pub(crate) fn start(mut self) {
        thread::spawn(move || {
            while !self.cores.is_empty() {
                thread::sleep(INTERVAL);
                self.cores.retain_mut(|core| match core.write(&[0]) {
                    Ok(_) => true,
                    Err(error) => error.kind() == io::ErrorKind::WouldBlock,
                });
            }
        });
    }
}

/// Takes the bytes, on the core's executor, in a task queue to which latency does not matter.
pub(crate) async fn feel(socket: UnixStream) {
    let mut socket = adopt_stream(socket);
    let mut bytes = [0; 256];
    while let Ok(1..) = socket.read(&mut bytes).await {}
}
