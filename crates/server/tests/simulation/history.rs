//! What happens to a store over the years, in the model and beside it: upgrades, retention, and what its disk loses.

use super::engine::{Engine, compare, refused};
use protocol::{ClientId, Fail, FailureClass, JobId, LeaseId, Submit};
use server::{
    clock::Timestamp,
    jobs::{
        Target, Targets,
        batch::Demand,
        state::{Event, Outcome, Refused, State},
    },
    store::{Forgotten, Retention},
};
use sqlx::{ConnectOptions, Executor, sqlite::SqliteConnectOptions};
use std::time::Duration;

/// Settled batches, and clients that were not heard, are kept for so long.
pub(super) const KEPT: Duration = Duration::from_secs(300);

impl Engine {
    /// The places of the batches that nothing proves any more, in the order of the chain.
    pub(super) fn stranded(&self, wanted: &Targets) -> Vec<usize> {
        let mut stranded = self.on_chain();
        stranded.retain(|place| {
            let jobs = self.jobs_of(*place).into_iter().map(|row| &self.rows[row]);
            let jobs: Vec<_> = jobs.map(|row| (row.target, row.job.state.name())).collect();
            !wanted.lacking(&jobs).is_empty()
        });
        stranded
    }

    /// Adds the jobs that batches lack since other proofs are wanted; returns them.
    pub(super) async fn rescue(&mut self, target: Target, now: Timestamp) -> Vec<JobId> {
        let wanted = Targets::from(target);
        let stranded = self.stranded(&wanted);
        for place in &stranded {
            for row in self.jobs_of(*place) {
                let row = &self.rows[row];
                assert_ne!(row.job.state, State::Proved, "an upgrade has nothing proven anew");
                let open = !matches!(row.job.state, State::Dead(_));
                assert!(!open || wanted.demand(&row.target) == Demand::SetAside);
            }
        }
        if let Some(real) = &self.real {
            let found = real.store.stranded(&wanted).await.unwrap();
            let blocks = stranded.iter().map(|place| self.batches[*place].batch.blocks);
            assert_eq!(
                found.iter().map(|it| it.blocks).collect::<Vec<_>>(),
                blocks.collect::<Vec<_>>()
            );
            for batch in &found {
                assert_eq!(real.store.rescue(batch, &wanted, now).await.unwrap().len(), 1);
            }
        }
        stranded.into_iter().map(|place| self.add_job(place, target, now)).collect()
    }

    /// Forgets what was settled long ago; returns how much.
    pub(super) async fn forget(&mut self, now: Timestamp) -> u64 {
        let before = Timestamp(now.0 - u64::try_from(KEPT.as_millis()).expect("it is short"));
        let chain = self.on_chain();
        let last = chain.iter().copied().rfind(|place| self.batches[*place].last_word);
        let over = |place: &usize| {
            let jobs: Vec<_> = self.jobs_of(*place).iter().map(|row| &self.rows[*row]).collect();
            Some(*place) != last
                && self.batches[*place].last_word
                && jobs.iter().any(|row| row.job.state == State::Proved)
                && jobs.iter().all(|row| row.finished_at.is_some_and(|at| at < before))
        };
        let mut gone: Vec<_> = chain.iter().copied().take_while(over).collect();
        let end = self.last_final().unwrap_or(0);
        gone.extend((0..self.batches.len()).filter(|place| {
            let batch = &self.batches[*place];
            let off = batch.superseded && !batch.forgotten;
            off && batch.superseded_at < before && batch.batch.blocks.last() <= end
        }));
        for place in &gone {
            self.batches[*place].forgotten = true;
            for row in self.jobs_of(*place) {
                let row = &mut self.rows[row];
                row.forgotten = true;
                self.leases.retain(|_, (job, ..)| *job != row.id);
                self.submissions.retain(|(job, ..), _| *job != row.id);
            }
        }
        let idle = |client: &ClientId| {
            let standing = self.clients[client];
            self.heard[client] < before
                && !standing.quarantined
                && !standing.draining
                && self.leases.values().all(|(_, holder, _)| holder != client)
        };
        let idle: Vec<_> = self.clients.keys().copied().filter(idle).collect();
        for client in &idle {
            self.clients.remove(client);
            self.heard.remove(client);
            self.proved.remove(client);
        }
        let batches = gone.len() as u64;
        let model = Forgotten { batches, clients: idle.len() as u64 };
        let retention = Retention { age: KEPT, until_delivered: false };
        compare!(self, Ok::<_, Refused>(model), forget(&retention, now));
        batches
    }

    /// A client has found no input.
    pub(super) async fn input_lost(
        &mut self,
        client: ClientId,
        job: JobId,
        lease: LeaseId,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let row = self.find(job);
        let held = self.rows[row].job.state.lease();
        let stolen = held.is_some_and(|held| held.id == lease && held.client != client);
        let model = match stolen {
            true => Err(Refused::NotTheLease),
            false => self.apply(row, &Event::InputLost { lease }, now).map(drop),
        };
        let class = FailureClass::InputMissing;
        let fail = Fail { client, lease, class, message: "no".into() };
        compare!(self, model, input_lost(job, &fail, now));
        model
    }

    /// The input of a job's batch was made again.
    pub(super) async fn replace_input(&mut self, job: JobId, now: Timestamp) {
        let place = self.rows[self.find(job)].batch;
        let input = self.batches[place].batch.input;
        for row in self.jobs_of(place) {
            let row = &mut self.rows[row];
            // A job that a reorg took away waits too, for when it comes back.
            let waits = matches!(row.job.state, State::Ready | State::Superseded(Outcome::Open));
            if waits && row.input_lost {
                row.job.not_before = row.job.not_before.min(now);
            }
        }
        if let Some(real) = &self.real {
            let lost = real.store.input_of(job).await.unwrap();
            assert!(real.store.replace_input(&lost, input, now).await.unwrap());
        }
    }

    /// A proof that waits for its verdict is not there any more.
    pub(super) async fn lose_proof(&mut self, job: JobId, submit: &Submit, now: Timestamp) -> bool {
        let (row, key) = (self.find(job), (job, submit.lease, submit.proof.sha256));
        let open = self.submissions.get(&key).is_some_and(|(.., verdict)| verdict.is_none());
        if open {
            self.submissions.remove(&key);
            // Its job may not wait for just that.
            let _other = self.apply(row, &Event::ProofLost { lease: submit.lease }, now);
        }
        compare!(self, Ok::<_, Refused>(open), lose_proof(job, submit, now));
        open
    }

    /// Migrates the database under the store that has it open, as a later version would: every table gets a column. False if
    /// there is only the model.
    pub(super) async fn migrate(&mut self, version: u64) -> bool {
        let Some(real) = &self.real else { return false };
        let options = SqliteConnectOptions::new().filename(real.folder.path().join("jobs.sqlite"));
        let mut connection = options.connect().await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '\\_%' ESCAPE '\\'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        assert!(tables.len() > 5, "{tables:?}");
        let mut sql = format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES ({}, 'later', true, x'', 0);",
            1_000 + version
        );
        for table in tables {
            sql += &format!(
                "ALTER TABLE {table} ADD COLUMN later{version} INTEGER NOT NULL DEFAULT 7;"
            );
        }
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        true
    }
}
