//! What operators decided, and what the server removed by itself. It is written in the transaction that does it.

use super::{JobStore, Result, queries::Page, rows::bound};
use crate::{
    clock::Timestamp,
    database::{Tx, columns::Col},
    jobs::Actor,
};
use protocol::AuditEntry;

impl JobStore {
    /// Records that `by` did `deed` to `subject`, if the transaction is committed.
    pub(crate) async fn record_deed(
        &self,
        tx: &mut Tx,
        by: &Actor,
        deed: &'static str,
        subject: String,
        detail: Option<String>,
        now: Timestamp,
    ) -> Result<()> {
        let insert = sqlx::query(
            "INSERT INTO audit (at, actor, deed, subject, detail) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(Col(now))
        .bind(by.to_string())
        .bind(deed)
        .bind(subject)
        .bind(detail);
        self.ok(insert.execute(&mut **tx).await).map(drop)
    }

    /// Records something that is done outside of the database.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn note(
        &self,
        by: &Actor,
        deed: &'static str,
        subject: String,
        detail: Option<String>,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        self.record_deed(&mut tx, by, deed, subject, detail, now).await?;
        self.ok(tx.commit().await)
    }

    /// What was recorded, the latest first: at most `limit` entries, of those before the one with the number `before`.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Page<AuditEntry>> {
        let rows = sqlx::query(
            "SELECT id, at, actor, deed, subject, detail FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
        );
        let before = before.map_or(i64::MAX, bound);
        let rows = rows.bind(before).bind(Col(limit)).fetch_all(self.db.readers()).await;
        let entry = |row| {
            Ok(AuditEntry {
                id: self.get(row, "id")?,
                at: self.get(row, "at")?,
                actor: self.get(row, "actor")?,
                deed: self.get(row, "deed")?,
                subject: self.get(row, "subject")?,
                detail: self.get(row, "detail")?,
            })
        };
        let items = self.ok(rows)?.iter().map(entry).collect::<Result<Vec<_>>>()?;
        let next = items.last().filter(|_| items.len() >= limit as usize).map(|entry| entry.id);
        Ok(Page { items, next })
    }
}
