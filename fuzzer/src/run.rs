//! One piece of a run: executions of one target, counted and watched.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Reason};
use crate::memory::{self, Meter};
use crate::mutator::Mutator;
use crate::target::Target;

/// An execution that lasts longer hangs. Even the slowest target needs less than a hundredth of it on a busy machine.
const HANG_SECONDS: u64 = 20;

/// How often a new longest execution is repeated: what the machine did meanwhile is not the target's time.
const REPETITIONS: usize = 4;

/// Executions of one target, by number.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// The seed of the run.
    pub seed: u64,
    /// The first execution.
    pub from: u64,
    /// How many.
    pub executions: u64,
}

/// What a piece came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How many inputs were accepted.
    pub accepted: u64,
    /// The longest execution, without making the input.
    pub longest_ns: u64,
    /// The most memory that an execution held at a time.
    pub memory_bytes: usize,
    /// How long all of it took.
    pub elapsed: Duration,
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a piece.
///
/// # Errors
/// The first execution that panics or holds too much memory. One that hangs ends the process, for nothing else can.
///
/// # Panics
/// When the program's allocator does not count: a limit that is not measured would always hold.
pub fn run_piece(target: &Target, piece: Piece) -> Result<Outcome, Failure> {
    assert!(
        memory::is_counting(),
        "the global allocator must be `Counting`"
    );
    keep_panics();
    let current = AtomicU64::new(piece.from);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| watch(target, piece, &current, &is_done));
        let result = execute(target, piece, &current);
        is_done.store(true, Ordering::Release);
        watch.thread().unpark();
        result
    })
}

fn execute(target: &Target, piece: Piece, current: &AtomicU64) -> Result<Outcome, Failure> {
    let mut mutator = Mutator::new(target, piece.seed);
    let started = Instant::now();
    let mut outcome = Outcome {
        accepted: 0,
        longest_ns: 0,
        memory_bytes: 0,
        elapsed: Duration::ZERO,
    };
    for number in piece.from..piece.from + piece.executions {
        current.store(number, Ordering::Relaxed);
        let input = mutator.input(number);
        let failed = |reason| Failure::Execution {
            target: target.name.clone(),
            seed: piece.seed,
            number,
            reason,
            input: input.to_vec(),
        };
        let meter = Meter::start();
        let before = Instant::now();
        let is_accepted = caught(target, input).map_err(failed)?;
        let mut lasted_ns = nanoseconds(before.elapsed());
        let memory_bytes = meter.peak_bytes();
        if memory_bytes > target.memory_bytes_max {
            return Err(failed(Reason::Memory {
                bytes: memory_bytes,
                limit: target.memory_bytes_max,
            }));
        }
        outcome.accepted += u64::from(is_accepted);
        outcome.memory_bytes = outcome.memory_bytes.max(memory_bytes);
        if lasted_ns > outcome.longest_ns {
            for _ in 0..REPETITIONS {
                let before = Instant::now();
                caught(target, input).map_err(failed)?;
                lasted_ns = lasted_ns.min(nanoseconds(before.elapsed()));
            }
            outcome.longest_ns = outcome.longest_ns.max(lasted_ns);
        }
    }
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

/// Runs one input that is no execution of a run.
pub(crate) fn run_input(target: &Target, input: &[u8]) -> Result<bool, Failure> {
    keep_panics();
    let meter = Meter::start();
    let failed = |reason| Failure::Input {
        target: target.name.clone(),
        reason,
    };
    let is_accepted = caught(target, input).map_err(failed)?;
    let bytes = meter.peak_bytes();
    if bytes > target.memory_bytes_max {
        return Err(failed(Reason::Memory {
            bytes,
            limit: target.memory_bytes_max,
        }));
    }
    Ok(is_accepted)
}

fn caught(target: &Target, input: &[u8]) -> Result<bool, Reason> {
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|payload| {
        let message = PANIC.with_borrow_mut(std::mem::take);
        Reason::Panic {
            message: match message.is_empty() {
                true => text_of(payload.as_ref()),
                false => message,
            },
        }
    })
}

/// Lets panics leave their message and place, instead of printing them: a failure prints them with the input.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A failing test of this package runs no target and prints as ever.
            if thread::current().name().is_some_and(|name| name != "main") {
                before(info);
            }
            PANIC.with_borrow_mut(|kept| *kept = info.to_string());
        }));
    });
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "with a value that is no text".to_owned()
    }
}

/// Ends the process when one execution does not end.
fn watch(target: &Target, piece: Piece, current: &AtomicU64, is_done: &AtomicBool) {
    let mut seen = u64::MAX;
    let mut since = Instant::now();
    while !is_done.load(Ordering::Acquire) {
        let number = current.load(Ordering::Relaxed);
        if number != seen {
            seen = number;
            since = Instant::now();
        } else if since.elapsed().as_secs() >= HANG_SECONDS {
            let failure = Failure::Execution {
                target: target.name.clone(),
                seed: piece.seed,
                number,
                reason: Reason::Hang {
                    seconds: HANG_SECONDS,
                },
                input: Mutator::new(target, piece.seed).input(number).to_vec(),
            };
            eprintln!("{failure}");
            std::process::exit(1);
        }
        thread::park_timeout(Duration::from_millis(500));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
