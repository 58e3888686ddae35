//! What a job is: its batch, its life, the standing of the clients that prove it, and what its proofs are checked against.
//!
//! Everything here is a value or a function of values: no SQL, no clock, no I/O. [`store`](crate::store) remembers what
//! these functions decide, and [`dispatch`](crate::dispatch) asks it to.

pub mod actor;
pub mod batch;
pub mod cost;
pub mod crew;
pub mod fold;
pub mod outcome;
pub mod parts;
pub mod party;
pub mod settlement;
pub mod standing;
pub mod state;
pub mod verification;

pub use actor::Actor;
pub use batch::{
    Demand, InvalidTargets, NewBatch, Target, Targets, Tip, Unlinked, Wanted, follows, job_id,
};
pub use party::Party;
pub use standing::{Standing, StandingEvent};
pub use state::{Event, Job, Rules};
