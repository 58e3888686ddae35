//! What keeps a server's data in order: garbage and what was settled long ago is removed, by itself too; backups, migrations, and a
//! check of every invariant.

pub mod backup;
pub mod beside;
pub mod clock;
pub mod fsck;
pub mod gc;
pub mod migrate;
pub mod upkeep;
