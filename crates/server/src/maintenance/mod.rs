//! What an operator does to a server's data: remove garbage, make a backup, check every invariant.

pub mod backup;
pub mod fsck;
pub mod gc;
