//! One core's books with the node's memory.

use metastore_engine::{Account, MemoryAccounts, MemoryRoom, MemoryShare, Time};

/// What a connection costs that does nothing: its task, its socket and its places in tables, in this process. Measured
/// with `metastore-perf run abuse`.
pub(super) const CONNECTION_BYTES: usize = 3 * 1024;

/// The accounts are looked at no more often than this.
const SETTLE_INTERVAL_MS: u64 = 1;

/// What a core holds, and when that was last told to the node.
pub(super) struct CoreMemory {
    share: MemoryShare,
    settled_at: Option<Time>,
    accounts: MemoryAccounts,
}

/// What is reported of memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryCounts {
    accounts: MemoryAccounts,
    /// Of the node: its budget, and what its cores have taken.
    budget_bytes: u64,
    granted_bytes: u64,
}

impl CoreMemory {
    pub(super) fn new(share: MemoryShare) -> CoreMemory {
        CoreMemory {
            share,
            settled_at: None,
            accounts: MemoryAccounts::default(),
        }
    }

    /// Whether it is time to look at the accounts again.
    pub(super) fn is_due(&self, now: Time) -> bool {
        let is_over = |at| now.millis_since(at) >= SETTLE_INTERVAL_MS;
        self.settled_at.is_none_or(is_over)
    }

    /// Tells the node what this core holds, and takes what is left.
    pub(super) fn settle(&mut self, now: Time, accounts: &MemoryAccounts) -> MemoryRoom {
        self.settled_at = Some(now);
        self.accounts = *accounts;
        self.share.settle(accounts)
    }

    pub(super) fn counts(&self) -> MemoryCounts {
        let pool = self.share.pool();
        MemoryCounts {
            accounts: self.accounts,
            budget_bytes: pool.budget().total_bytes(),
            granted_bytes: pool.granted_bytes(),
        }
    }
}

impl MemoryCounts {
    /// Every number with its name in reports: the core's accounts, then the node's sums.
    pub(crate) fn named(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let accounts = Account::ALL.into_iter().map(|account| {
            let name = format!("memory_{}_bytes", account.name());
            (name, self.accounts.get(account))
        });
        accounts.chain([
            ("memory_node_budget_bytes".to_owned(), self.budget_bytes),
            ("memory_node_granted_bytes".to_owned(), self.granted_bytes),
        ])
    }
}
