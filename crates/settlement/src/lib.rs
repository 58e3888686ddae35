//! Settles proven batches in a contract on L1: see docs/settlement.md.
//!
//! * [`state`] decides what to do next, as a pure function; [`fees`] what to offer, and [`check`] whether L1 would take a batch.
//! * [`l1`] and [`wallet`] are the two parties that are spoken to, and neither is trusted.
//! * [`deposits`] says which deposits on L1 the L2 has to consume.
//! * [`claim`] has withdrawals paid, [`deploy`] makes the contracts.
//! * [`sender`] does what was decided. The rows are in the job database: see `server::store::settlements`.

pub mod check;
pub mod claim;
pub mod contract;
pub mod deploy;
pub mod deposits;
pub mod fees;
pub mod l1;
pub mod once;
pub mod sender;
pub mod state;
pub mod wallet;

pub use check::{Field, Refusal};
pub use deposits::{Deposits, DepositsError};
pub use fees::{Caps, GWEI};
pub use l1::{L1Error, Rpc};
pub use once::{Done, Limits, OnceError};
pub use sender::{Config, Error, Label, Sender, Tick, Trial};
pub use state::Rules;
pub use wallet::{Wallet, WalletError};
