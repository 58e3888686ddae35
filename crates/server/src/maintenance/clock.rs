//! Times in the future, which a wrong clock left in a SQLite database, are set back.

use crate::{
    artifacts::Sharing,
    clock::{Timestamp, wall},
    config::Config,
    data_folder::{existing, lock},
    database::{Database, Schema, columns::Col},
    error::Error,
    jobs::state::LONGEST_REST,
    store::{Actor, JobStore},
};
use serde::Serialize;

/// What was corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Corrected {
    /// How far in the future the latest time was, in seconds.
    pub ahead_seconds: u64,
    /// Times set back to now, or to when what waits for them should be over.
    pub times: u64,
}

/// Every time that a server writes: table, column, and whether something waits for it, which may be for [`LONGEST_REST`]. What lies
/// further in the future is set to now.
const TIMES: [(&str, &str, bool); 23] = [
    ("clients", "first_seen", false),
    ("clients", "last_seen", false),
    ("clients", "rests_until", true),
    ("batches", "created_at", false),
    ("batches", "superseded_at", false),
    ("jobs", "not_before", true),
    ("jobs", "created_at", false),
    ("jobs", "finished_at", false),
    ("jobs", "lease_since", false),
    ("jobs", "lease_heard", false),
    ("jobs", "lease_expires_at", true),
    ("leases", "granted_at", false),
    ("leases", "ended_at", false),
    ("submissions", "received_at", false),
    ("tokens", "created_at", false),
    ("audit", "at", false),
    ("parties", "struck_at", false),
    ("switches", "since", false),
    ("deliveries", "at", false),
    ("settlements", "signed_at", false),
    ("settlers", "holds_until", true),
    ("settlers", "waiting_since", false),
    ("settlers", "seen_at", false),
];

/// Sets back what lies in the future in the database of a server that does not run.
///
/// # Errors
/// [`Error::FolderInUse`] if a server runs there; anything that cannot be opened or changed. PostgreSQL's own clock counts: there
/// [`Error::Config`] says so.
pub async fn correct(config: &Config) -> Result<Corrected, Error> {
    config.check()?;
    if config.database.is_some() {
        return Err(crate::config::InvalidConfig {
            key: "database",
            problem: "is PostgreSQL, whose own clock counts: correct that".into(),
        }
        .into());
    }
    let file = existing(&config.data_dir)?;
    let _lock = lock(&config.data_dir, Sharing::Alone)?;
    let now = wall();
    let store = JobStore::reading(Database::sqlite(&file, Schema::AsItIs).await?);
    let corrected = store.set_back(now).await;
    store.close().await;
    Ok(corrected?)
}

impl JobStore {
    async fn set_back(&self, now: Timestamp) -> Result<Corrected, crate::store::StoreError> {
        let ahead = self.now().await?.after(now).as_secs();
        let mut tx = self.database().begin().await?;
        // A job's turn goes by when it was enqueued: an operator may have shifted it beyond now.
        let due = "UPDATE jobs SET due = due - (created_at - $1) WHERE created_at > $1";
        let due = sqlx::query(due).bind(Col(now)).execute(&mut *tx).await;
        let mut times = self.ok(due)?.rows_affected();
        for (table, column, waits) in TIMES {
            let latest = if waits { now + LONGEST_REST } else { now };
            let sql = format!("UPDATE {table} SET {column} = $1 WHERE {column} > $2");
            let update = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(Col(now)).bind(Col(latest));
            times += self.ok(update.execute(&mut *tx).await)?.rows_affected();
        }
        if times > 0 {
            let (by, subject) = (Actor::new("correct-clock"), format!("{times} times"));
            let detail = Some(format!("up to {ahead} s in the future"));
            self.record_deed(&mut tx, &by, "correct_clock", subject, detail, now).await?;
        }
        self.ok(tx.commit().await)?;
        Ok(Corrected { ahead_seconds: ahead, times })
    }
}
