//! Why a server does not start, or a command on its data does not run.

use crate::{
    artifacts::ArtifactError, config::InvalidConfig, database::DatabaseError, store::StoreError,
};
use std::{io, net::SocketAddr, path::PathBuf};

/// Why a server does not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Another program listens there.
    #[error("address {0} is in use: stop the other program, or set another listen_port")]
    AddressInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another server uses the folder.
    #[error("folder {} is used by another server: stop it, or set another data_dir", .0.display())]
    FolderInUse(PathBuf),
    /// There is no folder of artifacts where they should be.
    #[error(
        "there is no folder {}: name the --config, --data-dir or --artifacts of the servers on this database", .0.display()
    )]
    NoArtifacts(PathBuf),
    /// The artifacts are not those that the other servers on the database use.
    #[error(
        "{place} does not hold the artifacts of database {database}: all servers on one database must have the same \
         artifacts (an S3-compatible store), or the same data_dir on a file system they share"
    )]
    OtherArtifacts {
        /// A folder, or a store's address.
        place: String,
        /// The database and its host.
        database: String,
    },
    /// The folder cannot be used.
    #[error("folder {} cannot be used: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Proofs are to be divided, and nothing here can execute the program as clients do.
    #[error(
        "setting split needs the prover's executable: put it beside l2-prover, or name it with --prover-executable"
    )]
    NoPlanner,
    /// The job store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The artifact store failed.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => Self::Database(error),
            error => Self::Store(error),
        }
    }
}
