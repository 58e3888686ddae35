//! Clients: when they were heard, how they stand, and what an operator decides about them.

use super::{
    JobStore, Result, SHOWN, StoreError,
    rows::{blob, client_columns, int},
};
use crate::{
    clock::Timestamp,
    database::{Notification, Tx},
    jobs::standing::{Standing, StandingEvent, judge},
};
use protocol::{ClientId, ClientSummary};
use sqlx::any::AnyRow;

impl JobStore {
    /// What an operator decides about a client.
    ///
    /// # Errors
    /// [`StoreError::NoSuchClient`].
    pub async fn decide(
        &self,
        client: ClientId,
        deed: StandingEvent,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !self.record_standing_event(&mut tx, client, deed, now).await? {
            return Err(StoreError::NoSuchClient(client));
        }
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)
    }

    /// The clients that were heard latest.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn clients(&self, now: Timestamp) -> Result<Vec<ClientSummary>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            client_columns!(),
            " FROM clients ORDER BY last_seen DESC LIMIT $1"
        ));
        let rows = self.ok(rows.bind(i64::from(SHOWN)).fetch_all(self.db.readers()).await)?;
        rows.iter()
            .map(|row| {
                Ok(ClientSummary {
                    client: ClientId::from_bytes(self.bytes(row, "id")?),
                    last_seen: self.uint(row, "last_seen")?,
                    proved: self.uint(row, "proved")?,
                    rejected: self.uint(row, "rejected")?,
                    rests_until: Some(self.uint(row, "rests_until")?)
                        .filter(|until| *until > now.0),
                    quarantined: self.uint(row, "quarantined")? != 0,
                    draining: self.uint(row, "draining")? != 0,
                })
            })
            .collect()
    }

    /// Remembers that a client was heard, and returns how it stands.
    pub(super) async fn touch_client(
        &self,
        tx: &mut Tx,
        client: ClientId,
        now: Timestamp,
    ) -> Result<Standing> {
        let row = sqlx::query(concat!(
            "INSERT INTO clients (id, first_seen, last_seen) VALUES ($1, $2, $2)
                 ON CONFLICT (id) DO UPDATE SET last_seen = $2 RETURNING ",
            client_columns!(),
        ));
        let row = row.bind(blob(client.as_bytes())).bind(int(now.0)).fetch_one(&mut **tx);
        self.standing(&self.ok(row.await)?)
    }

    /// Records what bears on a client's standing, and what becomes of that. False if nobody knows the client.
    pub(super) async fn record_standing_event(
        &self,
        tx: &mut Tx,
        client: ClientId,
        deed: StandingEvent,
        now: Timestamp,
    ) -> Result<bool> {
        let row =
            self.db.locking(concat!("SELECT ", client_columns!(), " FROM clients WHERE id = $1"));
        let row = sqlx::query(row).bind(blob(client.as_bytes())).fetch_optional(&mut **tx);
        let Some(row) = self.ok(row.await)? else { return Ok(false) };
        let after = judge(&self.standing(&row)?, deed, now, &self.rules);
        let update = sqlx::query(
            "UPDATE clients SET proved = proved + $1, rejected = rejected + $2, strikes = $3, rejected_in_a_row = $4,
             rests_until = $5, quarantined = $6, draining = $7 WHERE id = $8",
        )
        .bind(i64::from(deed == StandingEvent::Proved))
        .bind(i64::from(deed == StandingEvent::Rejected))
        .bind(i64::from(after.strikes))
        .bind(i64::from(after.rejected))
        .bind(int(after.rests_until.0))
        .bind(i64::from(after.quarantined))
        .bind(i64::from(after.draining))
        .bind(blob(client.as_bytes()))
        .execute(&mut **tx);
        self.ok(update.await)?;
        Ok(true)
    }

    pub(super) fn standing(&self, row: &AnyRow) -> Result<Standing> {
        Ok(Standing {
            strikes: self.small(row, "strikes")?,
            rejected: self.small(row, "rejected_in_a_row")?,
            rests_until: Timestamp(self.uint(row, "rests_until")?),
            quarantined: self.uint(row, "quarantined")? != 0,
            draining: self.uint(row, "draining")? != 0,
        })
    }
}
