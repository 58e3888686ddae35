//! What is counted for metrics, from rows.

use super::{
    JobStore, Result, StoreError,
    queries::{Census, Tally},
};
use crate::{
    clock::Timestamp,
    database::columns::Col,
    jobs::{
        batch::{Demand, Target, Targets},
        settlement::Settled,
    },
};
use protocol::{Counts, JobState};
use std::time::Duration;

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Jobs in each state.
    pub counts: Counts,
    /// What ready jobs ask for that is wanted and that no client has a lease on, and how many they are.
    pub unheld: Vec<(Target, u64)>,
    /// Jobs that were given up although their proof is wanted.
    pub given_up: u64,
    /// Time since the oldest job that is neither proved, nor given up, nor set aside was enqueued.
    pub oldest_open: Option<Duration>,
    /// The first block that has a job.
    pub first_block: Option<u64>,
    /// The last block that has a job.
    pub enqueued: Option<u64>,
    /// Every block up to this one is proved.
    pub proved_through: Option<u64>,
    /// Clients heard lately.
    pub clients_alive: u64,
    /// Clients that hold a lease.
    pub clients_busy: u64,
    /// Clients in quarantine.
    pub clients_quarantined: u64,
    /// Contracts on L1 that are settled to.
    pub contracts: u64,
    /// How the one stands that is furthest behind.
    pub settlement: SettlementFigures,
}

/// How settlements stand, as their sender saw it last. Of several contracts, the worst of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettlementFigures {
    /// The last settled block.
    pub settled: u64,
    /// The last one that is settled for good.
    pub finalized: u64,
    /// What the wallet has.
    pub balance_gwei: u64,
    /// How long a signed transaction has waited.
    pub waiting: Duration,
    /// How long ago L1 was seen.
    pub silent: Duration,
    /// Whether something keeps a batch from being settled.
    pub alarm: bool,
}

impl SettlementFigures {
    fn of(contracts: &[Settled], now: Timestamp) -> Self {
        let least = |of: fn(&Settled) -> Option<u64>| {
            contracts.iter().map(|it| of(it).unwrap_or_default()).min().unwrap_or_default()
        };
        let longest = |of: fn(&Settled) -> Option<Timestamp>| {
            contracts.iter().filter_map(of).map(|since| now.after(since)).max().unwrap_or_default()
        };
        Self {
            settled: least(|it| it.settled),
            finalized: least(|it| it.finalized),
            balance_gwei: least(|it| it.balance_gwei),
            waiting: longest(|it| it.waiting_since),
            silent: longest(|it| it.seen_at),
            alarm: contracts.iter().any(|it| it.alarm.is_some()),
        }
    }
}

impl JobStore {
    /// How things stand. A client that was heard within `alive` is alive.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn figures(
        &self,
        targets: &Targets,
        now: Timestamp,
        alive: Duration,
    ) -> Result<Figures, StoreError> {
        let since = now.0.saturating_sub(crate::clock::millis(alive));
        let row = sqlx::query(
            "SELECT (SELECT min(first) FROM batches) AS first,
             (SELECT last FROM batches WHERE superseded_at IS NULL ORDER BY first DESC LIMIT 1) AS last,
             (SELECT count(*) FROM clients WHERE last_seen >= $1) AS alive,
             (SELECT count(DISTINCT lease_client) FROM jobs WHERE state = 'leased') AS busy,
             (SELECT count(*) FROM clients WHERE quarantined <> 0) AS quarantined",
        );
        let row = row.bind(Col(since)).fetch_one(self.database().readers());
        let row = self.database().ok(row.await)?;
        let tallies = self.tallies().await?;
        let folds = self.tallies_of_folds().await?;
        let oldest_open = self.oldest_open(&tallies, targets).await?;
        let held = |target: &Target| {
            let same = |it: &&Tally| it.target == *target;
            let mut tallies = tallies.iter().chain(&folds).filter(same);
            tallies.any(|it| matches!(it.state, JobState::Leased | JobState::Verifying))
        };
        let wanted = |it: &&Tally| {
            targets.demand(&it.target) == Demand::Wanted
                || self.folding.iter().any(|step| step.into == it.target)
        };
        let all = || tallies.iter().chain(&folds).filter(wanted);
        let dead = all().filter(|it| it.state == JobState::Dead);
        let given_up = dead.map(|it| it.jobs).sum();
        let unheld = all().filter(|it| it.state == JobState::Ready && !held(&it.target));
        let unheld = unheld.map(|it| (it.target, it.jobs)).collect();
        let contracts: Vec<_> = self.settled_on().await?.into_iter().map(|(_, it)| it).collect();
        Ok(Figures {
            contracts: contracts.len() as u64,
            settlement: SettlementFigures::of(&contracts, now),
            counts: Census::of(&tallies, targets).counts,
            unheld,
            given_up,
            oldest_open: oldest_open.map(|oldest| now.after(oldest)),
            first_block: self.get(&row, "first")?,
            enqueued: self.get(&row, "last")?,
            proved_through: self.proved_through(targets).await?,
            clients_alive: self.get(&row, "alive")?,
            clients_busy: self.get(&row, "busy")?,
            clients_quarantined: self.get(&row, "quarantined")?,
        })
    }
}
