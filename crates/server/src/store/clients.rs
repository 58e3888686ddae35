//! Clients: when they were heard, how they stand, and what an operator decides about them.

use super::{
    Actor, JobStore, Result, SHOWN, StoreError,
    queries::MOST_HELD,
    rows::{client_columns, shown_client_columns},
};
use crate::{
    clock::Timestamp,
    database::{Notification, Tx, columns::Col},
    jobs::standing::{Standing, StandingEvent, judge},
};
use protocol::{Capability, ClientId, ClientSummary, messages::bounded};
use sqlx::{AssertSqlSafe, any::AnyRow};
use std::{collections::BTreeSet, time::Duration};

/// So many clients that were heard are written down in one transaction.
const HEARD_AT_ONCE: usize = 500;

/// A client that was not heard for so long is silent: longer than any pause between two of its calls.
pub const SILENT: Duration = Duration::from_secs(120);

/// Clients are counted up to so many.
const COUNTED: u32 = 10_000;

/// So many capabilities of a client are kept. Clients have one.
const MOST_CAPABILITIES: usize = 4;

/// What is known of a client that was heard.
pub(super) struct Seen {
    pub(super) standing: Standing,
    /// Whether no proof of it was ever accepted.
    pub(super) newcomer: bool,
}

impl JobStore {
    /// What an operator decides about a client.
    ///
    /// # Errors
    /// [`StoreError::NoSuchClient`].
    pub async fn decide(
        &self,
        client: ClientId,
        deed: StandingEvent,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        // ORDER: jobs before their client, as everybody locks them. The client may never be heard again.
        if deed == StandingEvent::Quarantine {
            self.take_all_back(&mut tx, client, now).await?;
        }
        if !self.record_standing_event(&mut tx, client, deed, now).await? {
            return Err(StoreError::NoSuchClient(client));
        }
        if deed == StandingEvent::Release {
            self.forgive_parties_of(&mut tx, client).await?;
        }
        self.record_deed(&mut tx, by, deed.name(), format!("client {client}"), None, now).await?;
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)
    }

    /// The clients that have jobs, those in quarantine, and those that were heard lately; the latest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn clients(&self, now: Timestamp) -> Result<Vec<ClientSummary>> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {} FROM clients WHERE id IN
             (SELECT id FROM (SELECT id FROM clients ORDER BY last_seen DESC, id DESC LIMIT {SHOWN}) AS latest
             UNION SELECT lease_client FROM (SELECT lease_client FROM jobs WHERE state = 'leased' LIMIT {MOST_HELD}) AS busy
             UNION SELECT id FROM (SELECT id FROM clients WHERE quarantined <> 0 LIMIT {MOST_HELD}) AS quarantined)
             ORDER BY last_seen DESC, id DESC",
            shown_client_columns!(),
        )));
        self.client_summaries(self.ok(rows.fetch_all(self.db.readers()).await)?, now)
    }

    /// How many clients have ever come, counted up to 10,000.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn clients_known(&self) -> Result<u64> {
        let count = sqlx::query(AssertSqlSafe(format!(
            "SELECT count(*) AS known FROM (SELECT id FROM clients LIMIT {COUNTED}) AS counted"
        )));
        self.get(&self.ok(count.fetch_one(self.db.readers()).await)?, "known")
    }

    /// All clients, those that were heard latest first: at most `limit`, of those after the one that was heard at `before.0` and
    /// is `before.1`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn list_clients(
        &self,
        before: Option<(Timestamp, ClientId)>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<ClientSummary>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            shown_client_columns!(),
            " FROM clients WHERE last_seen <= $1 AND (last_seen < $1 OR id < $2) ORDER BY last_seen DESC, id DESC LIMIT $3"
        ));
        let rows = match before {
            Some((seen, client)) => rows.bind(Col(seen)).bind(Col(client)),
            None => rows.bind(i64::MAX).bind(Vec::new()),
        };
        let rows = rows.bind(Col(limit)).fetch_all(self.db.readers()).await;
        self.client_summaries(self.ok(rows)?, now)
    }

    fn client_summaries(&self, rows: Vec<AnyRow>, now: Timestamp) -> Result<Vec<ClientSummary>> {
        rows.iter()
            .map(|row| {
                let last_seen: Timestamp = self.get(row, "last_seen")?;
                let capabilities: Option<String> = self.get(row, "capabilities")?;
                Ok(ClientSummary {
                    client: self.get(row, "id")?,
                    name: self.get(row, "name")?,
                    last_seen: last_seen.0,
                    failed: self.get(row, "strikes")?,
                    silent: now.after(last_seen) > SILENT,
                    proved: self.get(row, "proved")?,
                    rejected: self.get(row, "rejected")?,
                    rests_until: Some(self.get(row, "rests_until")?).filter(|until| *until > now.0),
                    quarantined: self.get(row, "quarantined")?,
                    draining: self.get(row, "draining")?,
                    capabilities: capabilities
                        .as_deref()
                        .map(read_capabilities)
                        .unwrap_or_default(),
                    cycles_per_second: self.get(row, "cycles_per_second")?,
                })
            })
            .collect()
    }

    /// Remembers what a client says of itself: its name, and what it can prove on what. Both are cut to what is kept.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn describe_client(
        &self,
        client: ClientId,
        name: &str,
        capabilities: &[Capability],
        now: Timestamp,
    ) -> Result<()> {
        let kept: Vec<Capability> = capabilities
            .iter()
            .take(MOST_CAPABILITIES)
            .map(|capability| capability.clone().bounded())
            .collect();
        let kept = serde_json::to_string(&kept).expect("names and numbers can be written as JSON");
        let mut tx = self.db.begin().await?;
        let note = sqlx::query(
            "INSERT INTO clients (id, first_seen, last_seen, name, capabilities) VALUES ($1, $2, $2, $3, $4)
             ON CONFLICT (id) DO UPDATE SET name = $3, capabilities = $4",
        );
        let name = Some(bounded(name)).filter(|name| !name.is_empty());
        let note = note.bind(Col(client)).bind(Col(now)).bind(name).bind(kept);
        self.ok(note.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)
    }

    /// Remembers that these clients were heard, as far as anybody knows them.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn heard(&self, clients: &BTreeSet<ClientId>, now: Timestamp) -> Result<()> {
        let clients: Vec<_> = clients.iter().collect();
        for some in clients.chunks(HEARD_AT_ONCE) {
            let mut tx = self.db.begin().await?;
            // ORDER: by their ids, so that no two servers wait for each other. Who holds a client's row waits for no other's.
            for client in some {
                let update = sqlx::query(
                    "UPDATE clients SET last_seen = $1 WHERE id = $2 AND last_seen < $1",
                )
                .bind(Col(now))
                .bind(Col(**client))
                .execute(&mut *tx);
                self.ok(update.await)?;
            }
            self.ok(tx.commit().await)?;
        }
        Ok(())
    }

    /// Remembers that a client was heard, and returns what is known of it.
    pub(super) async fn touch_client(
        &self,
        tx: &mut Tx,
        client: ClientId,
        now: Timestamp,
    ) -> Result<Seen> {
        let row = sqlx::query(concat!(
            "INSERT INTO clients (id, first_seen, last_seen) VALUES ($1, $2, $2)
                 ON CONFLICT (id) DO UPDATE SET last_seen = $2 RETURNING ",
            client_columns!(),
        ));
        let row = row.bind(Col(client)).bind(Col(now)).fetch_one(&mut **tx);
        let row = self.ok(row.await)?;
        let newcomer = self.get::<u64>(&row, "proved")? == 0;
        Ok(Seen { standing: self.standing(&row)?, newcomer })
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
        let row = sqlx::query(row).bind(Col(client)).fetch_optional(&mut **tx);
        let Some(row) = self.ok(row.await)? else { return Ok(false) };
        let after = judge(&self.standing(&row)?, deed, now, &self.rules);
        let update = sqlx::query(
            "UPDATE clients SET proved = proved + $1, rejected = rejected + $2, strikes = $3, rejected_in_a_row = $4,
             rests_until = $5, quarantined = $6, draining = $7 WHERE id = $8",
        )
        .bind(Col(deed == StandingEvent::Proved))
        .bind(Col(deed == StandingEvent::Rejected))
        .bind(Col(after.strikes))
        .bind(Col(after.rejected))
        .bind(Col(after.rests_until))
        .bind(Col(after.quarantined))
        .bind(Col(after.draining))
        .bind(Col(client))
        .execute(&mut **tx);
        self.ok(update.await)?;
        Ok(true)
    }

    pub(super) fn standing(&self, row: &AnyRow) -> Result<Standing> {
        Ok(Standing {
            strikes: self.get(row, "strikes")?,
            rejected: self.get(row, "rejected_in_a_row")?,
            rests_until: self.get(row, "rests_until")?,
            quarantined: self.get(row, "quarantined")?,
            draining: self.get(row, "draining")?,
        })
    }
}

/// What a client said of itself. It is for people: what an earlier version than that which wrote it cannot read is not shown.
fn read_capabilities(text: &str) -> Vec<Capability> {
    serde_json::from_str(text).unwrap_or_default()
}
