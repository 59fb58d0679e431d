//! Accepting connections.

use crate::outbox::Outbox;
use crate::server::connections::{Connections, Teardown};
use crate::server::refuse::Refusals;
use crate::server::socket::{Listener, Socket};
use crate::server::sweep::sweep_until_closed;
use crate::server::task::{ConnectionTask, new_read_buffer};
use crate::server::{ServerOptions, Service};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Accepting fails for want of descriptors or memory. Trying again at once would only burn the core.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts connections and runs them, until [`Connections::begin_drain`] or [`Connections::close_all`]. Then the
/// listener is closed, while connections live on as these two say: [`Connections::count`] tells when all are gone.
///
/// Everything is spawned into the task queue of the caller, in which [`Readiness::watch`](crate::server::Readiness::watch)
/// must run.
pub async fn serve<S: Service>(
    listener: Listener,
    service: Rc<S>,
    connections: Connections,
    options: ServerOptions,
) {
    connections.set_buffer_bytes_max(options.buffer_bytes_max);
    let refusals = Refusals::default();
    glommio::spawn_local(sweep_until_closed(connections.clone(), options)).detach();
    let read_buffer = new_read_buffer();
    while connections.teardown() == Teardown::Serving {
        let Some(accepted) = accept(&listener, &connections).await else {
            break;
        };
        let Ok(stream) = accepted else {
            connections.note(|counts| counts.accept_failures += 1);
            glommio::timer::sleep(ACCEPT_RETRY).await;
            continue;
        };
        if connections.count() >= options.connections_max {
            connections.note(|counts| counts.refused += 1);
            refusals.refuse(stream);
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
        // Many that come at once must not keep the core from those that are here.
        glommio::executor().yield_now().await;
    }
}

/// The next connection, or `None` when no more shall be accepted.
async fn accept(listener: &Listener, connections: &Connections) -> Option<io::Result<Socket>> {
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
