//! How newcomers behave under a token, and what that leaves to its other newcomers. Clients that have proved something, and
//! clients of servers that ask for no tokens, pay for none of this.

use super::{JobStore, Result};
use crate::{
    clock::Timestamp,
    database::{Tx, columns::Col},
    jobs::party::{Party, Trust},
};
use protocol::{ClientId, LeaseId};
use std::time::Duration;

/// When a token's newcomers have as many leases as they may, another one is told to ask again after so long.
const NO_ROOM: Duration = Duration::from_secs(5);

impl JobStore {
    /// Counts leases of `client` that ended badly under `party`, if the client is a newcomer, and says how far the party's newcomers
    /// are trusted then. None if the client is no newcomer under a token.
    ///
    /// Locks the party's row: whoever decides about its newcomers takes turns.
    pub(super) async fn strike(
        &self,
        tx: &mut Tx,
        party: Party,
        client: ClientId,
        strikes: u32,
        now: Timestamp,
    ) -> Result<Option<Trust>> {
        if !matches!(party, Party::Token(_)) {
            return Ok(None);
        }
        let row = sqlx::query(
            "INSERT INTO parties (id, strikes, struck_at) SELECT $1, $2, $3 FROM clients WHERE id = $4 AND proved = 0
             ON CONFLICT (id) DO UPDATE SET strikes = parties.strikes + excluded.strikes,
             struck_at = CASE WHEN excluded.strikes > 0 THEN excluded.struck_at ELSE parties.struck_at END
             RETURNING strikes, struck_at",
        )
        .bind(Col(party))
        .bind(Col(strikes))
        .bind(Col(now))
        .bind(Col(client))
        .fetch_optional(&mut **tx);
        let Some(row) = self.ok(row.await)? else { return Ok(None) };
        Ok(Some(Trust {
            strikes: self.get(&row, "strikes")?,
            struck_at: self.get(&row, "struck_at")?,
        }))
    }

    /// Until when newcomers under `party` get no job, if they get none at `now`.
    pub(super) async fn newcomers_wait(
        &self,
        tx: &mut Tx,
        party: Party,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        if trust.rests_until() > now {
            return Ok(Some(trust.rests_until()));
        }
        let most = trust.may_hold(&self.rules);
        let row = sqlx::query(
            "SELECT count(*) AS held FROM (SELECT 1 AS one FROM leases l WHERE party = $1 AND ended_at IS NULL
             AND (SELECT lease FROM jobs WHERE jobs.id = l.job) = l.id
             AND (SELECT proved FROM clients WHERE clients.id = l.client) = 0 LIMIT $2) AS live",
        );
        let row = row.bind(Col(party)).bind(Col(most)).fetch_one(&mut **tx);
        let held: u32 = self.get(&self.ok(row.await)?, "held")?;
        Ok((held >= most).then_some(now + NO_ROOM))
    }

    /// The party under which `client` had `lease`. None if it never had it.
    pub(super) async fn party_of(
        &self,
        tx: &mut Tx,
        client: ClientId,
        lease: LeaseId,
    ) -> Result<Option<Party>> {
        let row = sqlx::query("SELECT party FROM leases WHERE id = $1 AND client = $2")
            .bind(Col(lease))
            .bind(Col(client))
            .fetch_optional(&mut **tx);
        let Some(row) = self.ok(row.await)? else { return Ok(None) };
        Ok(Some(self.get::<Option<_>>(&row, "party")?.unwrap_or(Party::Client(client))))
    }

    /// Forgets what was held against the tokens under which a client had leases.
    pub(super) async fn forgive_parties_of(&self, tx: &mut Tx, client: ClientId) -> Result<()> {
        let update = sqlx::query(
            "UPDATE parties SET strikes = 0 WHERE strikes > 0 AND id IN (SELECT party FROM leases WHERE client = $1)",
        );
        self.ok(update.bind(Col(client)).execute(&mut **tx).await).map(drop)
    }

    /// Trusts the newcomers again of the party under which `client` had `lease`: a proof made under it was accepted.
    pub(super) async fn forgive_party_of(
        &self,
        tx: &mut Tx,
        client: ClientId,
        lease: LeaseId,
    ) -> Result<()> {
        let update = sqlx::query(
            "UPDATE parties SET strikes = 0 WHERE strikes > 0
             AND id = (SELECT party FROM leases WHERE leases.id = $1 AND client = $2)",
        );
        let update = update.bind(Col(lease)).bind(Col(client)).execute(&mut **tx);
        self.ok(update.await).map(drop)
    }
}
