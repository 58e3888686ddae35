//! What a database cannot do. Messages name it without its password.

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The database belongs to another program.
    #[error(
        "{0} is not a Prover Server's database: name another data_dir or database, or move it away"
    )]
    Foreign(String),
    /// The database is damaged.
    #[error(
        "database {database} is damaged ({detail}): restore it from a backup, or move it away to start anew; \
         clients keep proofs that were not acknowledged"
    )]
    Corrupt {
        /// The file, or the database and its host.
        database: String,
        /// What is wrong.
        detail: String,
    },
    /// The database was written by another version of this program.
    #[error(
        "database {database} does not fit this version ({detail}): use the version that wrote it"
    )]
    Version {
        /// The file, or the database and its host.
        database: String,
        /// What is wrong.
        detail: String,
    },
    /// The database has an earlier schema, and others may be using it.
    #[error(
        "database {database} has schema {found}, and this version needs {needed}: run `l2-prover migrate`, also while servers \
         of the version before run"
    )]
    Outdated {
        /// The file, or the database and its host.
        database: String,
        /// Its schema.
        found: i64,
        /// What this version needs.
        needed: i64,
    },
    /// The database may lose what it has committed.
    #[error(
        "database {database} may lose committed jobs and proofs, since its setting {setting} is off: turn it on"
    )]
    Unsafe {
        /// The database and its host.
        database: String,
        /// PostgreSQL's setting.
        setting: &'static str,
    },
    /// The database cannot be used now: its disk or the connection, for example.
    #[error("database {database} failed")]
    Failed {
        /// The file, or the database and its host.
        database: String,
        /// What the database says.
        #[source]
        source: sqlx::Error,
    },
}
