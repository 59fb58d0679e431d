//! A beat for every core, again and again, so that none sleeps for ever.
//!
//! An executor of glommio 0.9 goes to sleep with tasks that could run when its preemption timer has run out before it
//! looked at the first of them, as happens on a busy machine. It then wakes only for a completion that is still to come,
//! and the tasks that sleep through may be those that would have asked for one. So a thread of its own wakes a task of
//! each core in two ways: by a byte on a socket, which the ring sees that the executor sleeps on, unless the task that
//! reads it is one of those; and by its waker, which is an event of the executor's own, in its other ring.

use std::future::poll_fn;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::AsyncReadExt;
use metastore_net::server::adopt_stream;

/// A core that was lost sleeps no longer than this. It is the length of a raft tick.
const INTERVAL: Duration = Duration::from_millis(50);

/// The beating ends.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    cores: Vec<BeatingEnd>,
}

#[derive(Debug)]
struct BeatingEnd {
    socket: UnixStream,
    waker: SharedWaker,
}

type SharedWaker = Arc<Mutex<Option<Waker>>>;

/// What a core [`feel`]s.
#[derive(Debug)]
pub(crate) struct Beat {
    socket: UnixStream,
    waker: SharedWaker,
}

impl Pulse {
    /// The end of one more core.
    pub(crate) fn add_core(&mut self) -> io::Result<Beat> {
        let (ours, theirs) = UnixStream::pair()?;
        // A core that is busy has bytes enough to read: nobody waits for it.
        ours.set_nonblocking(true)?;
        let waker = SharedWaker::default();
        self.cores.push(BeatingEnd {
            socket: ours,
            waker: Arc::clone(&waker),
        });
        let socket = theirs;
        Ok(Beat { socket, waker })
    }

    /// Beats until all cores are gone.
    pub(crate) fn start(mut self) {
        thread::spawn(move || {
            while !self.cores.is_empty() {
                thread::sleep(INTERVAL);
                self.cores.retain_mut(BeatingEnd::beat);
            }
        });
    }
}

impl BeatingEnd {
    /// Whether the core is still there.
    fn beat(&mut self) -> bool {
        if let Some(waker) = self.waker.lock().expect("nobody panics with it").as_ref() {
            waker.wake_by_ref();
        }
        match self.socket.write_all(&[0]) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// Takes the beats, on the core's executor, in a task queue to which latency does not matter.
pub(crate) async fn feel(beat: Beat) {
    let Beat { socket, waker } = beat;
    let mut socket = adopt_stream(socket);
    let mut bytes = [0; 256];
    let wakes = poll_fn(|context| {
        let mut known = waker.lock().expect("nobody panics with it");
        if !known
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            *known = Some(context.waker().clone());
        }
        Poll::<()>::Pending
    });
    let reads = async { while let Ok(1..) = socket.read(&mut bytes).await {} };
    futures_lite::future::or(reads, wakes).await;
    // The thread that beats would keep the task.
    waker.lock().expect("nobody panics with it").take();
}
