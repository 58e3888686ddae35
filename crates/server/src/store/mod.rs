//! Jobs in a database: what is written there, and how it is read.
//!
//! * Each method is one transaction, and has happened for good when it returns.
//! * What a job becomes is decided by [`state::next`](crate::jobs::state::next); the store only remembers.
//! * Several servers may use one PostgreSQL database. What decides about a job locks its row first, then its client's, then its
//!   party's; no transaction waits for a second job.

pub mod audit;
pub mod chain;
pub mod clients;
pub mod error;
pub mod facts;
pub mod figures;
pub mod folds;
pub mod history;
pub mod inputs;
pub mod leases;
pub(crate) mod needed;
pub mod operators;
mod parties;
mod proofs;
pub mod queries;
pub mod retention;
pub(crate) mod rows;
pub mod settlements;
pub mod splits;
pub mod stranded;
pub mod submissions;
mod transitions;
pub mod trends;

pub use crate::jobs::Actor;
pub use chain::Superseded;
pub use error::StoreError;
pub use facts::{Done, Fact};
pub use figures::Figures;
pub use inputs::BatchInput;
pub use leases::{Leased, Look, Offer};
pub use operators::{Switch, Switches};
pub use queries::{JobFilter, Page};
pub use retention::{Forgotten, Retention};
pub use settlements::Settler;
pub use stranded::Stranded;
pub use submissions::{Precedence, Submitted};

use crate::{
    clock::Timestamp,
    database::{Database, DatabaseUrl, Schema},
    jobs::{fold::Folding, state::Rules},
};
use std::path::Path;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Jobs and clients shown in a status.
const SHOWN: u32 = 100;

/// Jobs, leases, submissions and clients. Clones share the database.
#[derive(Clone, Debug)]
pub struct JobStore {
    db: Database,
    rules: Rules,
    /// Whether jobs for succinct proofs are divided into parts before they are lent.
    divides: bool,
    /// What is made of accepted proofs.
    folding: Vec<Folding>,
}

impl JobStore {
    /// Opens the SQLite database at `path`, which is made if it is missing, and brings it to this version's schema.
    ///
    /// # Errors
    /// [`StoreError::Database`]: the file is foreign, corrupt or of another version, or cannot be opened.
    pub async fn open(path: &Path, rules: Rules) -> Result<Self> {
        let db = Database::sqlite(path, Schema::Migrated).await?;
        Ok(Self { db, rules, divides: false, folding: Vec::new() })
    }

    /// Connects to a PostgreSQL database, which several servers may use. An empty one gets this version's schema.
    ///
    /// # Errors
    /// As [`open`](Self::open), or if the database may lose what it has committed, or has an earlier schema.
    pub async fn connect(url: &DatabaseUrl, rules: Rules) -> Result<Self> {
        let db = Database::postgres(url, Schema::New).await?;
        Ok(Self { db, rules, divides: false, folding: Vec::new() })
    }

    /// Has new jobs for succinct proofs divided into parts before they are lent.
    #[must_use]
    pub fn dividing(self, divides: bool) -> Self {
        Self { divides, ..self }
    }

    /// A store to read from: its rules decide nothing.
    pub(crate) fn reading(db: Database) -> Self {
        let lease = std::time::Duration::ZERO;
        let rules = Rules {
            lease,
            max_hold: lease,
            max_failures: 0,
            max_lost: 0,
            max_rejected: 0,
            max_newcomers: 0,
        };
        Self { db, rules, divides: false, folding: Vec::new() }
    }

    /// The database below.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// A result of the database, as the store's.
    pub(crate) fn ok<T>(&self, result: sqlx::Result<T>) -> Result<T> {
        Ok(self.db.ok(result)?)
    }

    /// The error of rows that this program cannot have written.
    pub(crate) fn damaged(&self, detail: impl ToString) -> StoreError {
        self.db.damaged(detail).into()
    }

    /// Closes the database. Methods fail afterwards.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// The time that counts for leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn now(&self) -> Result<Timestamp> {
        Ok(self.db.now().await?)
    }

    /// The name of the artifact folder of a PostgreSQL database: `id`, unless it has one already.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn artifact_folder(&self, id: &str) -> Result<String> {
        let mut tx = self.db.begin().await?;
        let insert = sqlx::query(
            "INSERT INTO artifact_folder (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING",
        );
        self.db.ok(insert.bind(id.to_owned()).execute(&mut *tx).await)?;
        let row = sqlx::query("SELECT id FROM artifact_folder").fetch_one(&mut *tx).await;
        let id = self.get(&self.db.ok(row)?, "id")?;
        self.db.ok(tx.commit().await)?;
        Ok(id)
    }
}
