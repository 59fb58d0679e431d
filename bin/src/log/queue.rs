//! Between those who speak and the one that writes: a bounded queue, and a thread that may wait for the terminal.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::message::{FieldValue, Level, Message};
use crate::config::LogFormat;

/// Lines that wait for the writer. With the limit of a line this is the memory that they can take.
const LINES_MAX: usize = 1024;
/// How often somebody with a last word looks for a place in the queue.
const RETRY: Duration = Duration::from_millis(2);

enum Item {
    Line(String),
    /// Everything before is to be written, then whoever asked is told.
    Flush(SyncSender<()>),
}

/// The queue, as those who speak see it.
pub(super) struct Queue {
    sender: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(format: LogFormat, out: impl Write + Send + 'static) -> io::Result<Queue> {
        let (sender, receiver) = mpsc::sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            format,
            out,
            dropped: Arc::clone(&dropped),
            dropped_told: 0,
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&receiver))?;
        Ok(Queue { sender, dropped })
    }

    /// Queues a line, or counts it as dropped. Never waits.
    pub(super) fn push(&self, line: String) {
        if self.sender.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that found no place.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Queues a line, waiting for a place, and waits until it is written, all of it within a limit.
    pub(super) fn push_and_flush(&self, line: String, limit: Duration) {
        let until = Instant::now() + limit;
        if self.insist(Item::Line(line), until) {
            self.flush_until(until);
        }
    }

    /// Waits until everything queued is written, within a limit.
    pub(super) fn flush(&self, limit: Duration) {
        self.flush_until(Instant::now() + limit);
    }

    fn flush_until(&self, until: Instant) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.insist(Item::Flush(done), until) {
            // Whoever waits here is about to end, whether it was written or not.
            let _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Whether the item found a place in time.
    fn insist(&self, item: Item, until: Instant) -> bool {
        let mut item = item;
        loop {
            match self.sender.try_send(item) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(returned)) => item = returned,
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(RETRY);
        }
    }
}

struct Writer<W> {
    format: LogFormat,
    out: W,
    dropped: Arc<AtomicU64>,
    dropped_told: u64,
}

impl<W: Write> Writer<W> {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            match item {
                Item::Line(line) => self.write(&line),
                Item::Flush(done) => {
                    self.tell_dropped();
                    let _ = self.out.flush();
                    // Whoever asked may have given up.
                    let _ = done.send(());
                }
            }
            self.tell_dropped();
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped == self.dropped_told {
            return;
        }
        let message = Message {
            time: SystemTime::now(),
            level: Level::Warn,
            words: "messages were dropped: whoever reads them was too slow",
            fields: &[("dropped", FieldValue::from(dropped - self.dropped_told))],
            suppressed: 0,
        };
        let line = message.format(self.format);
        self.dropped_told = dropped;
        self.write(&line);
    }

    /// A store serves whether or not its messages can be written.
    fn write(&mut self, line: &str) {
        let _ = self.out.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Takes lines once its door is open.
    #[derive(Clone)]
    struct Paper {
        door: Arc<Mutex<()>>,
        text: Arc<Mutex<String>>,
    }

    impl Paper {
        fn new() -> Paper {
            Paper {
                door: Arc::default(),
                text: Arc::default(),
            }
        }

        fn text(&self) -> String {
            self.text.lock().expect("nobody panics").clone()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.door.lock().expect("nobody panics");
            let text = String::from_utf8_lossy(bytes);
            self.text.lock().expect("nobody panics").push_str(&text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn lines_come_out_in_order() {
        let paper = Paper::new();
        let queue = Queue::start(LogFormat::Text, paper.clone()).expect("a thread");
        for number in 0..100 {
            queue.push(format!("{number}\n"));
        }
        queue.push_and_flush("last\n".to_owned(), LIMIT);
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(paper.text(), expected + "last\n");
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn a_reader_that_stopped_holds_up_nobody_and_hears_how_much_it_missed() {
        let paper = Paper::new();
        let queue = Queue::start(LogFormat::Json, paper.clone()).expect("a thread");
        let closed = paper.door.lock().expect("nobody panics");
        let lines = 3 * LINES_MAX;
        for number in 0..lines {
            queue.push(format!("{number}\n"));
        }
        let dropped = queue.dropped();
        assert!(dropped >= (lines - LINES_MAX - 1) as u64, "{dropped}");
        let began = Instant::now();
        queue.push_and_flush("nobody hears this\n".to_owned(), Duration::from_millis(50));
        assert!(began.elapsed() < LIMIT, "the wait has a limit");
        drop(closed);
        queue.flush(LIMIT);
        let text = paper.text();
        let told: u64 = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|value| value["dropped"].as_u64())
            .sum();
        assert_eq!(told, queue.dropped(), "{text}");
    }
}
