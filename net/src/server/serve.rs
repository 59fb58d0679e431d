//! Accepting connections, and ending those that have gone quiet.

use crate::outbox::Outbox;
use crate::response::append_refusal;
use crate::server::connections::{Connections, Slot, Teardown};
use crate::server::task::{ConnectionTask, new_read_buffer};
use crate::server::{ServerOptions, Service};
use crate::wire_error::{ErrorCode, WireError};
use futures_io::AsyncWrite;
use glommio::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Accepting fails for want of descriptors or memory. Trying again at once would only burn the core.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Bounds of the interval between two looks for timeouts.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(5);
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Accepts connections and runs them, until [`Connections::begin_drain`] or [`Connections::close_all`]. Then the
/// listener is closed, while connections live on as these two say: [`Connections::count`] tells when all are gone.
///
/// Everything is spawned into the task queue of the caller.
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: Rc<S>,
    connections: Connections,
    options: ServerOptions,
) {
    glommio::spawn_local(sweep_until_closed(connections.clone(), options)).detach();
    let read_buffer = new_read_buffer();
    while connections.teardown() == Teardown::Serving {
        let Some(accepted) = accept(&listener, &connections).await else {
            break;
        };
        let Ok(stream) = accepted else {
            glommio::timer::sleep(ACCEPT_RETRY).await;
            continue;
        };
        if connections.count() >= options.connections_max {
            refuse(stream).await;
            continue;
        }
        let slot = connections.insert(Outbox::new(&options.connection));
        let task = ConnectionTask::new(
            stream,
            slot,
            Rc::clone(&service),
            connections.clone(),
            &options,
            Rc::clone(&read_buffer),
        );
        glommio::spawn_local(task.run()).detach();
    }
}

/// The next connection, or `None` when no more shall be accepted.
async fn accept(
    listener: &TcpListener,
    connections: &Connections,
) -> Option<glommio::Result<TcpStream, ()>> {
    let mut accepting = pin!(listener.accept());
    std::future::poll_fn(|context| {
        connections.set_accept_waker(context.waker());
        if connections.teardown() == Teardown::Serving {
            accepting.as_mut().poll(context).map(Some)
        } else {
            Poll::Ready(None)
        }
    })
    .await
}

/// Tells a client that there is no room. A socket that was just opened takes a few bytes at once; if it does not, the
/// client learns as much from the closing.
async fn refuse(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let error = WireError::new(ErrorCode::Overloaded).with_message("too many connections");
    append_refusal(&mut bytes, &error);
    std::future::poll_fn(|context| {
        let _sent = Pin::new(&mut stream).poll_write(context, &bytes);
        let _shut_down = Pin::new(&mut stream).poll_close(context);
        Poll::Ready(())
    })
    .await;
}

/// Looks for timeouts at intervals, one task for all connections of the core: a timer for each read would cost more
/// than the read.
async fn sweep_until_closed(connections: Connections, options: ServerOptions) {
    let shortest = options.handshake_timeout.min(options.idle_timeout);
    let interval = (shortest / 4).clamp(SWEEP_INTERVAL_MIN, SWEEP_INTERVAL_MAX);
    let started = Instant::now();
    while connections.teardown() == Teardown::Serving || connections.count() > 0 {
        connections.set_now_ms(milliseconds(started.elapsed()));
        for slot in connections.live() {
            if is_expired(&slot, connections.now_ms(), &options, interval) {
                slot.is_cut.set(true);
                slot.wake();
            }
        }
        glommio::timer::sleep(interval).await;
    }
}

/// Whether a connection has used up its time. Stamps are up to one interval old when they are made, which is given
/// back here, so that nobody is cut early.
fn is_expired(slot: &Slot, now_ms: u64, options: &ServerOptions, interval: Duration) -> bool {
    let outbox = slot.outbox.borrow();
    let quiet_ms = now_ms.saturating_sub(slot.last_activity_ms.get());
    let has_passed =
        |elapsed_ms: u64, timeout: Duration| elapsed_ms > milliseconds(timeout + interval);
    if outbox.is_closing() {
        return has_passed(quiet_ms, options.handshake_timeout);
    }
    if !outbox.was_greeted() {
        let age_ms = now_ms.saturating_sub(slot.opened_ms);
        return has_passed(age_ms, options.handshake_timeout);
    }
    if !outbox.unsent().is_empty() {
        // What a client sends does not excuse it from reading.
        let unread_ms = now_ms.saturating_sub(slot.last_sent_ms.get());
        return has_passed(unread_ms, options.idle_timeout);
    }
    // With requests under way and nothing to send it is the client that waits for us.
    outbox.in_flight() == 0 && has_passed(quiet_ms, options.idle_timeout)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
