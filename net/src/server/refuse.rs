//! Turning a connection away so that its client reads why.
//!
//! A socket that is closed with unread bytes resets the connection, and a reset can take the last word with it. A
//! client that says hello at once would lose it that way nearly always. So our side is shut down behind the word, and
//! what the client sends is thrown away until it closes, for a limited time and for a limited number of clients.

use crate::response::append_refusal;
use crate::server::socket::Socket;
use crate::wire_error::{ErrorCode, WireError};
use futures_io::{AsyncRead, AsyncWrite};
use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Refused connections that linger at one time. Those beyond are closed at once: no flood of connections may cost more
/// than this many descriptors.
const LINGERING_MAX: usize = 256;

/// How long a refused client may take to read why.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What refused clients are told to wait.
const RETRY_AFTER_MS: u32 = 1_000;

/// Bytes that are thrown away at a time.
const DISCARD_BYTES: usize = 1024;

/// Reads before others have their turn: a client that sends faster than is thrown away would keep the core, and the
/// time at which it is let go would never be looked at.
const DISCARDS_MAX: usize = 16;

/// The refused connections of a core that linger.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    lingering: Rc<Cell<usize>>,
}

impl Refusals {
    /// Tells a client that there are too many connections, and lets it go.
    pub(super) fn refuse(&self, stream: Socket) {
        if self.lingering.get() >= LINGERING_MAX {
            return;
        }
        self.lingering.set(self.lingering.get() + 1);
        let lingering = Rc::clone(&self.lingering);
        glommio::spawn_local(async move {
            linger(stream).await;
            lingering.set(lingering.get() - 1);
        })
        .detach();
    }
}

async fn linger(mut stream: Socket) {
    let mut word = Vec::new();
    let error = WireError {
        retry_after_ms: RETRY_AFTER_MS,
        ..WireError::new(ErrorCode::Overloaded)
    };
    append_refusal(&mut word, &error.with_message("too many connections"));
    let mut time = pin!(glommio::timer::sleep(LINGER_TIME));
    let mut is_said = false;
    std::future::poll_fn(|context| {
        if time.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if !is_said {
            // A socket that was just opened takes a few bytes at once; if it does not, the closing says as much.
            let _sent = Pin::new(&mut stream).poll_write(context, &word);
            let _shut_down = Pin::new(&mut stream).poll_close(context);
            is_said = true;
        }
        poll_discard(&mut stream, context)
    })
    .await;
}

/// Reads on until the client closes or its connection breaks.
fn poll_discard(stream: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>) -> Poll<()> {
    let mut discarded = [0; DISCARD_BYTES];
    for _ in 0..DISCARDS_MAX {
        match Pin::new(&mut *stream).poll_read(context, &mut discarded) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(count)) if count > 0 => {}
            Poll::Ready(Ok(_) | Err(_)) => return Poll::Ready(()),
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    /// Counts how often the task was woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A client that sends so many bytes without a pause, and then closes.
    struct Flood {
        left: usize,
    }

    impl AsyncRead for Flood {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let count = buffer.len().min(self.left);
            self.left -= count;
            Poll::Ready(Ok(count))
        }
    }

    #[test]
    fn a_refused_client_that_sends_without_end_lets_others_run() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut flood = Flood {
            left: 2 * DISCARDS_MAX * DISCARD_BYTES,
        };
        for turn in 1..=2 {
            assert!(poll_discard(&mut flood, &mut context).is_pending());
            assert_eq!(wakes.0.load(Ordering::Relaxed), turn, "it must be woken");
        }
        assert!(poll_discard(&mut flood, &mut context).is_ready());
    }
}
