//! One client and servers that misbehave: silent ones, slow ones, and some that say nonsense about time. Disks that
//! are full, folders that were copied, proofs that were rejected.

mod cloned;
mod disk;
mod fake;
mod memory;
mod rejected;
mod resumed;
mod silent;
mod times;
