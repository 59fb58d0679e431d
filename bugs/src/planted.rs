//! Which bug is planted at present.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::LazyLock;

use crate::mutant::Mutant;

/// Is in every program in which bugs can be planted, so that it can be told from a server.
#[used]
static MARK: [u8; 35] = *b"metastore: bugs can be planted here";

/// Names the bug that every thread of a process begins with. For servers, which plant nothing themselves.
const VARIABLE: &str = "METASTORE_MUTANT";

static OF_PROCESS: LazyLock<Option<Mutant>> = LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    let mutant = name.parse();
    Some(mutant.unwrap_or_else(|error| panic!("{VARIABLE}: {error}")))
});

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = Cell::new(*OF_PROCESS);
}

/// While it lives, a bug is planted in this thread.
#[derive(Debug)]
#[must_use = "the bug is gone when this is"]
pub struct Planted {
    /// It is the thread's: it must not be dropped in another.
    of_thread: PhantomData<*const ()>,
}

/// Plants a bug in this thread.
///
/// # Panics
/// When one is planted already: two at a time prove nothing about either.
pub fn plant(mutant: Mutant) -> Planted {
    let before = PLANTED.replace(Some(mutant));
    assert_eq!(before, None, "one bug is planted at a time");
    Planted {
        of_thread: PhantomData,
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

pub(crate) fn planted() -> Option<Mutant> {
    PLANTED.get()
}

/// Whether this bug is planted in this thread.
#[must_use]
pub fn is_planted(mutant: Mutant) -> bool {
    planted() == Some(mutant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_planted_as_long_as_its_guard_lives_and_in_one_thread() {
        let (one, other) = (Mutant::ALL[0], Mutant::ALL[1]);
        let guard = plant(one);
        assert!(is_planted(one) && !is_planted(other));
        let elsewhere = std::thread::spawn(move || is_planted(one));
        assert!(!elsewhere.join().expect("it ends"));
        drop(guard);
        assert!(!is_planted(one));
        drop(plant(other));
    }

    #[test]
    #[should_panic(expected = "one bug is planted at a time")]
    fn two_bugs_are_not_planted_together() {
        let _first = plant(Mutant::ALL[0]);
        let _second = plant(Mutant::ALL[1]);
    }
}
