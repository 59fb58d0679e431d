//! The second driver of the core: nodes and clusters on simulated devices, in virtual time, through everything that goes
//! wrong.
//!
//! A single node with its clients and the checkers of its log:
//!
//! ```text
//!   Workload ──> Clients ──Input──> Core ──Effect──> Node ──> Disk ──crash──> what is left
//!                   │                                  │        │                  │
//!                   ├────────── answers ──────────┐  records  durable?          recover
//!                   v                             v    v        v                  v
//!                History: what clients saw         Ledger: all that is durable, in order
//! ```
//!
//! The core, its log and its recovery are the code of the server. Everything around them is made up here and follows
//! from a seed: the same seed gives the same run, byte for byte, in every process.
//!
//! A cluster is described on [`cluster`], its checkers on [`checkers`]; [`cluster::world`] is one seeded run of it,
//! [`campaign`] many of them.
//!
//! Where to begin with a single node: [`world`] is one seeded run, [`power_loss`] many of them; [`bench`](mod@bench) is what single stories
//! are told with; the feature `bug-bank` adds `mutants`, which plants bugs to prove that the checkers find them;
//! [`log_reuse`] drives the log alone. The binary `crash-test` kills real servers and judges them by the same
//! [`oracle::History`]; `fault-test` breaks clusters of them and judges them as [`cluster::world`] is judged.
//!
//! What this crate does not do: it opens no file and no socket, reads no clock, starts no thread and draws nothing
//! from the system's randomness; only the binaries `crash-test` and `fault-test` do, and `metastore-sim` keeps a clock for who waits for it. It does not look inside the core: what it checks,
//! it checks from outside.

pub mod bench;
pub mod campaign;
pub mod checkers;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod log_reuse;
#[cfg(feature = "bug-bank")]
pub mod mutants;
pub mod network;
pub mod node;
pub mod operation;
pub mod oracle;
pub mod power_loss;
pub mod random;
pub mod scheduler;
pub mod trace;
pub mod violation;
pub mod workload;
pub mod world;

pub use clients::Tally;
pub use node::NodeCounters;
pub use trace::Trace;
pub use violation::Violation;
pub use world::{World, WorldReport};
