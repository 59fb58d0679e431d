//! The threads of a core on which something may block, and who has how many of them.
//!
//! A core without a free segment stands still. What may take long, and comes in any number, is bounded below what there
//! is, so that a segment never waits behind it:
//!
//! | for | threads at most |
//! |---|---|
//! | what is read of the log and of snapshots for other nodes | 2 |
//! | snapshots that are written, one thing after the other | 1 |
//! | changes of `node.toml` | 1 |
//! | segments that are made and removed | all, of which two are nobody else's |

use glommio::sync::Semaphore;

/// How many threads a core has for all of it.
pub(crate) const BLOCKING_THREADS: usize = 6;

/// What is read for others side by side.
const READS_MAX: u64 = 2;
/// `node.toml` is written by one after the other anyway.
const FILES_MAX: u64 = 1;
/// [`super::snapshot_writer`] does one thing after the other by itself.
const SNAPSHOTS_MAX: u64 = 1;

const _: () = assert!(READS_MAX + FILES_MAX + SNAPSHOTS_MAX + 2 <= BLOCKING_THREADS as u64);

/// Who waits for a thread of the core.
#[derive(Debug)]
pub(crate) struct BlockingRoom {
    reads: Semaphore,
    files: Semaphore,
}

impl Default for BlockingRoom {
    fn default() -> BlockingRoom {
        BlockingRoom {
            reads: Semaphore::new(READS_MAX),
            files: Semaphore::new(FILES_MAX),
        }
    }
}

impl BlockingRoom {
    /// Reads something for another node, in its turn.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        run(&self.reads, work).await
    }

    /// Changes `node.toml`, in its turn.
    pub(crate) async fn change_file<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        run(&self.files, work).await
    }
}

async fn run<T: Send + 'static>(room: &Semaphore, work: impl FnOnce() -> T + Send + 'static) -> T {
    let _permit = room.acquire_permit(1).await;
    let _permit = _permit.expect("nobody closes it");
    glommio::executor().spawn_blocking(work).await
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::mpsc;
    use std::time::Duration;

    use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

    use super::*;

    /// Whoever reads and writes for others waits for a word that comes only when a segment has been made.
    #[test]
    fn a_segment_waits_for_nobody_else() {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(64 << 10)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
            .spawn(|| async {
                let room = Rc::new(BlockingRoom::default());
                let mut words = Vec::new();
                let mut others = Vec::new();
                for other in 0..20 {
                    let (word, heard) = mpsc::channel::<()>();
                    words.push(word);
                    let room = Rc::clone(&room);
                    others.push(glommio::spawn_local(async move {
                        let wait = move || heard.recv().is_ok();
                        match other % 2 {
                            0 => room.read(wait).await,
                            _ => room.change_file(wait).await,
                        }
                    }));
                }
                glommio::executor().yield_now().await;
                for _ in 0..3 {
                    let made = async { Ok(glommio::executor().spawn_blocking(|| 7).await) };
                    let in_time = glommio::timer::timeout(Duration::from_secs(10), made).await;
                    in_time.expect("a segment has a thread of its own");
                }
                for word in words {
                    // One that waits for its turn has not begun to listen; the channel keeps the word.
                    let _ = word.send(());
                }
                for other in others {
                    other.await;
                }
            });
        let done = executor.expect("it can start").join();
        done.expect("it ends");
    }
}
