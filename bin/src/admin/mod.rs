//! The admin port: metrics and health over HTTP, for monitoring and for whoever restarts processes.
//!
//! It runs on threads of its own and asks no core for anything: it reads what the cores have hung up on the
//! [`Board`]. So it answers when a core does not, and a slow reader of metrics costs no request a microsecond. It
//! does **not** change anything, and does not ask who is there: it listens on the loopback interface unless told
//! otherwise.

mod health;
pub(crate) mod http;
mod metric;
mod metrics;
mod process;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use self::http::{Request, Response};
use crate::log;
use crate::node::Board;

/// Connections at one time, each with a thread; others wait in the kernel, and none takes longer than a few seconds.
const CONNECTIONS_MAX: usize = 16;
/// How long to wait after the kernel had no connection or thread for us.
const RETRY: Duration = Duration::from_millis(100);

/// Answers on `address` from here on, until the process ends.
///
/// # Errors
/// When it cannot listen there, or there can be no thread.
pub(crate) fn start(address: SocketAddr, board: Board) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || accept(&listener, &board))?;
    Ok(())
}

fn accept(listener: &TcpListener, board: &Board) {
    let places = Arc::new(Places::default());
    loop {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) => {
                log::warning!(
                    "the admin port has no connection",
                    error = log::text(&error)
                );
                thread::sleep(RETRY);
                continue;
            }
        };
        let (board, place) = (board.clone(), Places::take(&places));
        let spawned = thread::Builder::new()
            .name("admin-answer".to_owned())
            .spawn(move || {
                serve(socket, &board);
                drop(place);
            });
        if let Err(error) = spawned {
            log::warning!("the admin port has no thread", error = log::text(&error));
            thread::sleep(RETRY);
        }
    }
}

/// How many connections there are, and a bell for the one who waits for there to be fewer.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// Held by a connection.
struct Place(Arc<Places>);

impl Places {
    /// Waits for a place and takes it.
    fn take(places: &Arc<Places>) -> Place {
        let taken = places.taken.lock().expect("a panic ends the process");
        let is_full = |taken: &mut usize| *taken >= CONNECTIONS_MAX;
        let taken = places.freed.wait_while(taken, is_full);
        *taken.expect("a panic ends the process") += 1;
        Place(Arc::clone(places))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.taken.lock().expect("a panic ends the process") -= 1;
        self.0.freed.notify_one();
    }
}

/// One request, one answer. What goes wrong with a connection concerns its client alone.
fn serve(socket: TcpStream, board: &Board) {
    let _ = http::serve(socket, |request| answer(request, board));
}

fn answer(request: &Request, board: &Board) -> Response {
    match request.path.as_str() {
        "/metrics" => Response {
            status: 200,
            content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body: metrics::render(board),
        },
        "/healthz" => health::response(&health::liveness(board)),
        "/readyz" => health::response(&health::readiness(board)),
        _ => Response::text(404, "there are /metrics, /healthz and /readyz\n"),
    }
}

#[cfg(test)]
mod tests;
