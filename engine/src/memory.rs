//! The memory of a node: one budget, an account for each use, and what is refused when it runs short.
//!
//! Cores report what they hold, account by account, and settle it with the node's [`MemoryPool`] once a turn. The pool
//! is shared by all cores and has no lock: a core takes and gives back grants of a mebibyte, so that most turns touch
//! nothing shared. What the pool answers, a [`MemoryRoom`], is an input of the core: the core itself never looks at
//! what other cores do, or the same inputs would not give the same effects.
//!
//! ```text
//!  0                                                                                      budget
//!  |------------- state ----------------|--- history ---|------ work under way -----|-reserve-|
//!                                       |                                           |
//!                 growing commands get QuotaExceeded        requests get Overloaded, but deletes pass
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// What memory is used for. Names are stable: they stand in status reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Live keys and values, and the map over them.
    State,
    /// Older versions.
    History,
    /// Log entries that raft may ask for.
    Tail,
    /// Commands of batches that are not proposed yet.
    OpenBatches,
    /// Reads that wait for their round.
    Reads,
    /// Answers that are being put together, and chunks of ranges.
    Replies,
    /// Messages that wait for room in the channels to other cores.
    Mesh,
    /// Frames that have arrived in part, or wait for a limit.
    Inbound,
    /// Answers that wait for their sockets.
    Outbound,
    /// What a connection costs that does nothing.
    Connections,
    /// Buffers of the log, fixed at the start.
    Log,
    /// Snapshots that are being written or loaded.
    Snapshot,
    /// Events that wait for watchers.
    Watch,
}

impl Account {
    /// All accounts, in the order of reports.
    pub const ALL: [Account; 13] = [
        Account::State,
        Account::History,
        Account::Tail,
        Account::OpenBatches,
        Account::Reads,
        Account::Replies,
        Account::Mesh,
        Account::Inbound,
        Account::Outbound,
        Account::Connections,
        Account::Log,
        Account::Snapshot,
        Account::Watch,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Account::State => "state",
            Account::History => "history",
            Account::Tail => "tail",
            Account::OpenBatches => "open_batches",
            Account::Reads => "reads",
            Account::Replies => "replies",
            Account::Mesh => "mesh",
            Account::Inbound => "inbound",
            Account::Outbound => "outbound",
            Account::Connections => "connections",
            Account::Log => "log",
            Account::Snapshot => "snapshot",
            Account::Watch => "watch",
        }
    }
}

/// What one core holds, in bytes by account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryAccounts {
    bytes: [u64; Account::ALL.len()],
}

impl MemoryAccounts {
    /// What an account holds.
    #[must_use]
    pub fn get(&self, account: Account) -> u64 {
        self.bytes[account as usize]
    }

    /// Sets what an account holds.
    pub fn set(&mut self, account: Account, bytes: u64) {
        self.bytes[account as usize] = bytes;
    }

    /// Adds to what an account holds.
    pub fn add(&mut self, account: Account, bytes: u64) {
        self.bytes[account as usize] += bytes;
    }

    /// All accounts together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// How much memory a node may use, and how it is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    total_bytes: u64,
    state_bytes_max: u64,
    load_bytes_max: u64,
}

/// A budget that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a memory budget of {total_bytes} bytes is less than the {min_bytes} that these cores and shards need"
)]
pub struct MemoryBudgetError {
    /// What was asked for.
    pub total_bytes: u64,
    /// The least that works.
    pub min_bytes: u64,
}

/// What a core needs besides its shards: its log's buffers and work under way.
const CORE_BYTES_MIN: u64 = 64 << 20;
/// The last part of the budget is for raft and deletes: load cannot take it.
const RESERVE_DIVISOR: u64 = 16;
/// This part is for work under way, the reserve included.
const WORK_DIVISOR: u64 = 4;

impl MemoryBudget {
    /// Divides `total_bytes` among the uses of a node with `cores` cores, whose shards may keep `history_bytes_max`
    /// of history in all.
    ///
    /// # Errors
    /// When it is less than [`MemoryBudget::bytes_min`].
    pub fn new(
        total_bytes: u64,
        cores: usize,
        history_bytes_max: u64,
    ) -> Result<MemoryBudget, MemoryBudgetError> {
        let min_bytes = MemoryBudget::bytes_min(cores, history_bytes_max);
        if total_bytes < min_bytes {
            return Err(MemoryBudgetError {
                total_bytes,
                min_bytes,
            });
        }
        let work_bytes = total_bytes / WORK_DIVISOR;
        Ok(MemoryBudget {
            total_bytes,
            state_bytes_max: total_bytes - work_bytes - history_bytes_max,
            load_bytes_max: total_bytes - total_bytes / RESERVE_DIVISOR,
        })
    }

    /// The smallest budget that works: twice the history, so that state finds room beside it, and 64 MiB a core.
    #[must_use]
    pub fn bytes_min(cores: usize, history_bytes_max: u64) -> u64 {
        2 * history_bytes_max + CORE_BYTES_MIN * cores as u64
    }

    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The most that keys and values may take.
    #[must_use]
    pub fn state_bytes_max(&self) -> u64 {
        self.state_bytes_max
    }

    /// What one core may use for frames that arrive, and again for answers that leave: load on the connections of one
    /// core must leave room for the others.
    #[must_use]
    pub fn connection_bytes_max(&self, cores: usize) -> u64 {
        self.total_bytes / RESERVE_DIVISOR / cores as u64
    }
}

/// What is left for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadRoom {
    /// Requests are taken.
    Ample,
    /// Only what frees memory is taken.
    Short,
    /// Nothing is taken: even the reserve is spent.
    Spent,
}

/// What the pool leaves to a core at the end of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRoom {
    /// For requests.
    pub load: LoadRoom,
    /// The most that keys and values of the node may take.
    pub state_bytes_max: u64,
    /// What they take.
    pub state_bytes: u64,
}

impl MemoryRoom {
    /// As much as anybody wants: for drivers without a budget.
    pub const UNLIMITED: MemoryRoom = MemoryRoom {
        load: LoadRoom::Ample,
        state_bytes_max: u64::MAX,
        state_bytes: 0,
    };
}

/// The memory of a node, shared by its cores.
#[derive(Debug)]
pub struct MemoryPool {
    budget: MemoryBudget,
    granted_bytes: AtomicU64,
    state_bytes: AtomicU64,
}

/// Grants are whole multiples of this, so that a core touches the pool only when its use has moved that far.
const GRANT_BYTES: u64 = 1 << 20;

impl MemoryPool {
    /// A pool from which nothing is taken.
    #[must_use]
    pub fn new(budget: MemoryBudget) -> Arc<MemoryPool> {
        Arc::new(MemoryPool {
            budget,
            granted_bytes: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
        })
    }

    /// How it is divided.
    #[must_use]
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// What all cores have taken, rounded up to grants.
    #[must_use]
    pub fn granted_bytes(&self) -> u64 {
        self.granted_bytes.load(Ordering::Relaxed)
    }

    /// What is left. The numbers need not fit each other to the byte: each alone decides.
    fn room(&self) -> MemoryRoom {
        let granted_bytes = self.granted_bytes();
        let load = if granted_bytes > self.budget.total_bytes {
            LoadRoom::Spent
        } else if granted_bytes > self.budget.load_bytes_max {
            LoadRoom::Short
        } else {
            LoadRoom::Ample
        };
        MemoryRoom {
            load,
            state_bytes_max: self.budget.state_bytes_max,
            state_bytes: self.state_bytes.load(Ordering::Relaxed),
        }
    }
}

/// One core's part of the pool; given back when it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    pool: Arc<MemoryPool>,
    granted_bytes: u64,
    state_bytes: u64,
}

impl MemoryShare {
    /// Of a core that holds nothing yet.
    #[must_use]
    pub fn new(pool: Arc<MemoryPool>) -> MemoryShare {
        MemoryShare {
            pool,
            granted_bytes: 0,
            state_bytes: 0,
        }
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &MemoryPool {
        &self.pool
    }

    /// Takes or gives back what the accounts have moved since the last time, and says what is left. What is held is
    /// held: a grant is never refused, but beyond the budget new work is.
    pub fn settle(&mut self, accounts: &MemoryAccounts) -> MemoryRoom {
        let state_bytes = accounts.get(Account::State);
        move_to(
            &self.pool.granted_bytes,
            &mut self.granted_bytes,
            accounts.total(),
        );
        move_to(&self.pool.state_bytes, &mut self.state_bytes, state_bytes);
        self.pool.room()
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.pool
            .granted_bytes
            .fetch_sub(self.granted_bytes, Ordering::Relaxed);
        self.pool
            .state_bytes
            .fetch_sub(self.state_bytes, Ordering::Relaxed);
    }
}

/// Moves a grant to what is used now, rounded up. One that is at most one grant too large is kept, so that use that
/// goes up and down by little does not touch the pool at all.
fn move_to(shared: &AtomicU64, granted_bytes: &mut u64, used_bytes: u64) {
    let wanted_bytes = used_bytes.next_multiple_of(GRANT_BYTES);
    if wanted_bytes > *granted_bytes {
        shared.fetch_add(wanted_bytes - *granted_bytes, Ordering::Relaxed);
        *granted_bytes = wanted_bytes;
    } else if wanted_bytes + GRANT_BYTES < *granted_bytes {
        shared.fetch_sub(*granted_bytes - wanted_bytes, Ordering::Relaxed);
        *granted_bytes = wanted_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn accounts(account: Account, bytes: u64) -> MemoryAccounts {
        let mut accounts = MemoryAccounts::default();
        accounts.set(account, bytes);
        accounts
    }

    fn pool(mebibytes: u64) -> Arc<MemoryPool> {
        MemoryPool::new(MemoryBudget::new(mebibytes * MIB, 1, 64 * MIB).unwrap())
    }

    #[test]
    fn a_budget_too_small_is_refused_with_the_least_that_works() {
        let refused = MemoryBudget::new(MIB, 2, 128 * MIB).unwrap_err();
        assert_eq!(refused.min_bytes, 384 * MIB);
        let least = MemoryBudget::new(384 * MIB, 2, 128 * MIB).unwrap();
        assert_eq!(least.state_bytes_max(), (384 - 96 - 128) * MIB);
    }

    #[test]
    fn load_is_refused_before_the_reserve_is_touched() {
        let pool = pool(320);
        let mut share = MemoryShare::new(Arc::clone(&pool));
        let mut load_at = |mebibytes| {
            let use_now = accounts(Account::Outbound, mebibytes * MIB);
            share.settle(&use_now).load
        };
        assert_eq!(load_at(300), LoadRoom::Ample);
        assert_eq!(load_at(301), LoadRoom::Short);
        assert_eq!(load_at(320), LoadRoom::Short);
        assert_eq!(load_at(321), LoadRoom::Spent);
        assert_eq!(load_at(299), LoadRoom::Ample);
    }

    #[test]
    fn cores_see_what_the_others_hold_and_give_it_back() {
        let pool = pool(320);
        let mut first = MemoryShare::new(Arc::clone(&pool));
        let mut second = MemoryShare::new(Arc::clone(&pool));
        first.settle(&accounts(Account::State, 150 * MIB));
        let room = second.settle(&accounts(Account::State, 10 * MIB));
        assert_eq!(room.state_bytes, 160 * MIB);
        assert_eq!(room.state_bytes_max, (320 - 80 - 64) * MIB);
        drop(first);
        let room = second.settle(&MemoryAccounts::default());
        assert_eq!((room.state_bytes, pool.granted_bytes()), (0, 0));
    }

    #[test]
    fn small_movements_do_not_touch_the_pool() {
        let pool = pool(320);
        let mut share = MemoryShare::new(Arc::clone(&pool));
        let mut granted_at = |bytes| {
            share.settle(&accounts(Account::Replies, bytes));
            pool.granted_bytes() / MIB
        };
        assert_eq!(granted_at(MIB + 1), 2);
        assert_eq!(granted_at(10), 2);
        assert_eq!(granted_at(2 * MIB + 1), 3);
        assert_eq!(granted_at(MIB + 5), 3);
        assert_eq!(granted_at(MIB), 1);
    }

    #[test]
    fn accounts_are_numbered_in_the_order_of_reports() {
        for (position, account) in Account::ALL.into_iter().enumerate() {
            assert_eq!(account as usize, position, "{}", account.name());
        }
    }
}
