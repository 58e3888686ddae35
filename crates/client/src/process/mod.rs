//! Proving in a process of its own, so that nothing a zkVM does can take the client with it, and so that no two zkVMs are linked
//! into one program: each has an executable, which speaks the prover protocol (`docs/prover-protocol.md`).
//!
//! * [`ProverProcess`] is the parent's side: a [`Prover`](crate::Prover) that starts the executable anew for each piece of work.
//!   [`serve`](serve()) is the executable's side.
//! * Each message is one line of JSON: one assignment on the child's stdin, its answers on its stdout. Inputs and proofs are files.
//! * The child says first who it is. Parent and child must have the same version; what to do about another one is in the error.
//! * Whatever ends the child, the parent knows which it was: a proof, a failure it reported, a crash, the kernel out of
//!   memory, a hang.
//! * The child ends with its parent, and never outlives the call that started it.
//! * Signals meant for the client (ctrl-c, a service manager's SIGTERM) do not reach the child: its parent decides.

mod child;
pub mod messages;
mod parent;
mod serve;

pub use messages::{Identity, PROTOCOL, VERSION};
pub use parent::{ExecutableError, ProverProcess, Wanted};
pub use serve::serve;

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The finished proof, in [`Setup::folder`]: there whole and durable, or not at all.
pub const PROOF: &str = "proof";

/// How to start the child, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The executable; it must call [`serve`](serve()).
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables to set in its environment, which is otherwise ours.
    pub environment: Vec<(OsString, OsString)>,
    /// Folder of its temporary files and of the proof while it proves. Emptied before each proof.
    pub folder: PathBuf,
    /// It is hung if it reports no progress for so long.
    pub stall: Duration,
    /// It is hung if it takes longer than this.
    pub limit: Duration,
}

/// Makes the folder if it is missing, and removes what is in it.
pub(crate) fn empty(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}
