//! Proofs handed in, their verdicts, and what the accepted ones cost.
//!
//! The same proof under the same lease gets the same verdict for ever.

use super::{
    JobStore, Result, StoreError,
    facts::{Done, Fact},
    rows::submission_columns,
};
use crate::{
    clock::Timestamp,
    database::{Tx, columns::Col},
    jobs::{
        Party,
        batch::Wanted,
        cost::{CostCorrection, ProvingCost},
        outcome::{LeaseOutcome, RecordedVerdict},
        standing::StandingEvent,
        state::{Event, Lease, State},
        verification::Rejection,
    },
};
use protocol::{ClientId, JobId, JobState, LeaseId, Submit, Verdict};
use sqlx::any::AnyRow;

/// What is to be done with a proof that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It has been judged already.
    Judged(Verdict),
    /// Check it, then tell [`JobStore::judge`].
    Verify(Wanted),
}

/// What there is to say for a proof before it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// It has been verified.
    Judged,
    /// It comes under its job's live lease, from the client that has it.
    Live,
    /// It comes under a lease that its client once had on the job, and no other proof under that was rejected.
    Late,
    /// Nothing.
    Stranger,
}

/// Nobody proves more cycles a second: the sum of two such numbers fits into a column.
const FASTEST: u64 = 1 << 60;

impl JobStore {
    /// The proofs handed in before `before` that have no verdict, with their jobs: whoever verified them went, or failed. Those
    /// under their job's lease come first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn unjudged(&self, before: Timestamp) -> Result<Vec<(JobId, Submit)>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            submission_columns!(),
            " FROM submissions WHERE verdict IS NULL AND received_at <= $1 ORDER BY
             (SELECT count(*) FROM jobs j WHERE j.id = submissions.job AND j.lease = submissions.lease) DESC, received_at"
        ));
        let rows = self.ok(rows.bind(Col(before)).fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| Ok((self.get(row, "job")?, self.submit_of(row)?))).collect()
    }

    /// A proof as it was handed in.
    pub(super) fn submit_of(&self, row: &AnyRow) -> Result<Submit> {
        Ok(Submit {
            client: self.get(row, "client")?,
            lease: self.get(row, "lease")?,
            system: self.get(row, "system")?,
            program_id: self.get(row, "program_id")?,
            kind: self.get(row, "kind")?,
            proof: self.artifact(row, "proof", "proof_len")?,
        })
    }

    /// Remembers a proof whose bytes are durable. The same proof under the same lease gets the same verdict for ever.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn submit(
        &self,
        job: JobId,
        submit: &Submit,
        now: Timestamp,
    ) -> Result<Done<Submitted>> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        self.touch_client(&mut tx, submit.client, now).await?;
        if !self.open_submission(&mut tx, job, submit, now).await?
            && let Known::Judged(verdict) = self.verdict(&mut tx, job, submit).await?
        {
            self.ok(tx.commit().await)?;
            let value = Submitted::Judged(verdict_for_client(verdict, &row.job.state));
            return Ok(Done { value, facts: Vec::new() });
        }
        let (target, seq, state, of) = (row.target, row.seq, row.job.state.clone(), row.part);
        let part = match of {
            Some(of) => self.wanted_part(&mut tx, job, of).await?,
            None => None,
        };
        let its = |held: &&Lease| held.id == submit.lease && held.client == submit.client;
        let held = row.job.state.lease().filter(its);
        let time = held.map(|held| now.after(held.since));
        let handed_in = Event::Submit { lease: submit.lease };
        let after = self.try_apply(&mut tx, row, &handed_in, now).await?;
        let mut facts = Vec::new();
        let submitted = match after {
            // What nobody can check any more is of no use: the job is proven in another way.
            Ok(_) if of.is_none() || part.is_some() => {
                let statement = sqlx::query(
                    "SELECT coalesce(f.statement, b.statement) AS statement, b.gas_used, b.estimated_cycles FROM jobs j
                     JOIN batches b ON b.id = j.batch LEFT JOIN folds f ON f.job = j.id WHERE j.seq = $1",
                );
                let statement = self.ok(statement.bind(seq).fetch_one(&mut *tx).await)?;
                let effort = ProvingCost {
                    time,
                    gas: self.get(&statement, "gas_used")?,
                    cycles: self.get(&statement, "estimated_cycles")?,
                };
                let statement = self.get(&statement, "statement")?;
                Submitted::Verify(Wanted { target, statement, effort, part })
            }
            _ => {
                let recorded = RecordedVerdict::Duplicate;
                facts.push(self.record(&mut tx, job, submit, recorded, None).await?);
                Submitted::Judged(verdict_for_client(Verdict::Duplicate, &state))
            }
        };
        self.ok(tx.commit().await)?;
        Ok(Done { value: submitted, facts })
    }

    /// What there is to say for a proof before it is verified.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn precedence(&self, job: JobId, submit: &Submit) -> Result<Precedence> {
        let row = sqlx::query(
            "SELECT state, lease, lease_client,
             (SELECT count(*) FROM submissions s WHERE s.job = $1 AND s.lease = $2 AND s.proof = $3) AS open,
             (SELECT count(*) FROM submissions s WHERE s.job = $1 AND s.lease = $2 AND s.proof = $3
                 AND s.verdict IS NOT NULL) AS judged,
             (SELECT count(*) FROM (SELECT 1 AS one FROM submissions s WHERE s.job = $1 AND s.lease = $2
                 AND s.verdict = 'rejected' LIMIT 1) AS garbage) AS rejected,
             (SELECT count(*) FROM leases l WHERE l.id = $2 AND l.job = $1 AND l.client = $4) AS granted
             FROM jobs WHERE id = $1",
        )
        .bind(Col(job))
        .bind(Col(submit.lease))
        .bind(Col(submit.proof.sha256))
        .bind(Col(submit.client))
        .fetch_optional(self.db.readers());
        let row = self.ok(row.await)?.ok_or(StoreError::NoSuchJob(job))?;
        let some = |column| Ok::<_, StoreError>(self.get::<u64>(&row, column)? != 0);
        let (state, lease, client): (JobState, Option<LeaseId>, Option<ClientId>) =
            (self.get(&row, "state")?, self.get(&row, "lease")?, self.get(&row, "lease_client")?);
        let its = lease == Some(submit.lease) && client == Some(submit.client);
        Ok(if some("judged")? {
            Precedence::Judged
        } else if its
            && (state == JobState::Leased || state == JobState::Verifying && some("open")?)
        {
            Precedence::Live
        } else if some("granted")? && !some("rejected")? {
            Precedence::Late
        } else {
            Precedence::Stranger
        })
    }

    /// Forgets an open submission whose bytes are lost; its job, if it waits for just that, is ready again. Nobody is to blame.
    /// False if it is not open.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn lose_proof(&self, job: JobId, submit: &Submit, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let Known::Open = self.verdict(&mut tx, job, submit).await? else { return Ok(false) };
        let forget =
            sqlx::query("DELETE FROM submissions WHERE job = $1 AND lease = $2 AND proof = $3")
                .bind(Col(job))
                .bind(Col(submit.lease))
                .bind(Col(submit.proof.sha256))
                .execute(&mut *tx);
        self.ok(forget.await)?;
        let (seq, lost) = (row.seq, Event::ProofLost { lease: submit.lease });
        if self.try_apply(&mut tx, row, &lost, now).await?.is_ok() {
            self.end_lease(&mut tx, submit.lease, LeaseOutcome::Cancelled, now).await?;
            self.set_last_error(&mut tx, seq, "the server lost a proof before it was verified")
                .await?;
        }
        self.ok(tx.commit().await)?;
        Ok(true)
    }

    /// Records what the check of a submitted proof gave, and what follows from it.
    ///
    /// # Errors
    /// [`StoreError::NotSubmitted`] if another server has lost the proof meanwhile; [`StoreError`] if the database fails. Then
    /// nothing has been recorded.
    pub async fn judge(
        &self,
        job: JobId,
        submit: &Submit,
        checked: std::result::Result<(), Rejection>,
        now: Timestamp,
    ) -> Result<Done<Verdict>> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let state = row.job.state.clone();
        match self.verdict(&mut tx, job, submit).await? {
            Known::Judged(verdict) => {
                return Ok(Done { value: verdict_for_client(verdict, &state), facts: Vec::new() });
            }
            // What is accepted must be there.
            Known::New => {
                return Err(StoreError::NotSubmitted { job, proof: submit.proof.sha256 });
            }
            Known::Open => {}
        }
        let (seq, held) = (row.seq, state.lease().cloned());
        let its =
            held.as_ref().filter(|held| held.id == submit.lease && held.client == submit.client);
        let party = its.map(|held| held.party);
        let (verdict, recorded, reason) = match checked {
            Ok(()) => {
                let proof = (submit.proof, submit.client);
                if self.apply_with(&mut tx, row, &Event::Verified, now, Some(proof)).await?.is_ok()
                {
                    if let Some(held) = held {
                        let outcome = match held.id == submit.lease {
                            true => LeaseOutcome::Proved,
                            false => LeaseOutcome::ProvedByOther,
                        };
                        self.end_lease(&mut tx, held.id, outcome, now).await?;
                    }
                    self.record_standing_event(&mut tx, submit.client, StandingEvent::Proved, now)
                        .await?;
                    // Nothing is held against clients that need no token.
                    if !matches!(party, Some(Party::Client(_))) {
                        self.forgive_party_of(&mut tx, submit.client, submit.lease).await?;
                    }
                    (Verdict::Accepted, RecordedVerdict::Accepted, None)
                } else {
                    (Verdict::Duplicate, RecordedVerdict::Duplicate, None)
                }
            }
            Err(rejection) => {
                let reason = rejection.to_string();
                let rejected = Event::Rejected { lease: submit.lease };
                if self.try_apply(&mut tx, row, &rejected, now).await?.is_ok() {
                    self.end_lease(&mut tx, submit.lease, LeaseOutcome::Rejected, now).await?;
                }
                // Anyone can name a client, but only the client knows its leases.
                let party = self.party_of(&mut tx, submit.client, submit.lease).await?;
                if let Some(party) = party {
                    self.set_last_error(&mut tx, seq, &format!("proof rejected: {reason}")).await?;
                    self.record_standing_event(
                        &mut tx,
                        submit.client,
                        StandingEvent::Rejected,
                        now,
                    )
                    .await?;
                    self.strike(&mut tx, party, submit.client, 1, now).await?;
                }
                let verdict = Verdict::Rejected { reason: reason.clone() };
                (verdict, RecordedVerdict::Rejected, Some(reason))
            }
        };
        let fact = self.record(&mut tx, job, submit, recorded, reason).await?;
        self.ok(tx.commit().await)?;
        Ok(Done { value: verdict_for_client(verdict, &state), facts: vec![fact] })
    }

    /// Notes what an accepted proof shows: the cycles that it turned out to cost, and how many a second its client proved. The
    /// latter counts as much as all that the client's proofs before it showed.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn record_shown(
        &self,
        job: JobId,
        client: ClientId,
        cycles: Option<u64>,
        speed: Option<u64>,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if let Some(cycles) = cycles {
            let update = sqlx::query("UPDATE jobs SET proven_cycles = $1 WHERE id = $2")
                .bind(Col(cycles))
                .bind(Col(job))
                .execute(&mut *tx);
            self.ok(update.await)?;
        }
        if let Some(speed) = speed {
            let update = sqlx::query(
                "UPDATE clients SET cycles_per_second =
                 CASE WHEN cycles_per_second IS NULL THEN $1 ELSE (cycles_per_second + $1) / 2 END WHERE id = $2",
            );
            let update = update.bind(Col(speed.min(FASTEST))).bind(Col(client));
            self.ok(update.execute(&mut *tx).await)?;
        }
        self.ok(tx.commit().await)
    }

    /// What proofs turned out to cost lately, beside what had been expected.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn cost_correction(&self) -> Result<CostCorrection> {
        let mut tx = self.db.begin_reading().await?;
        let lately = sqlx::query(
            "SELECT b.estimated_cycles, j.proven_cycles FROM jobs j JOIN batches b ON b.id = j.batch
             WHERE j.proven_cycles IS NOT NULL ORDER BY j.seq DESC LIMIT 31",
        );
        let rows = self.ok(lately.fetch_all(&mut *tx).await)?;
        let proofs: Result<Vec<_>> = rows
            .iter()
            .map(|row| Ok((self.get(row, "estimated_cycles")?, self.get(row, "proven_cycles")?)))
            .collect();
        Ok(CostCorrection::of(proofs?))
    }

    /// What is known of a submission.
    pub(super) async fn verdict(&self, tx: &mut Tx, job: JobId, submit: &Submit) -> Result<Known> {
        let row = sqlx::query(
            "SELECT verdict, reason FROM submissions WHERE job = $1 AND lease = $2 AND proof = $3",
        )
        .bind(Col(job))
        .bind(Col(submit.lease))
        .bind(Col(submit.proof.sha256))
        .fetch_optional(&mut **tx);
        let Some(row) = self.ok(row.await)? else { return Ok(Known::New) };
        Ok(match self.get(&row, "verdict")? {
            None => Known::Open,
            Some(RecordedVerdict::Accepted) => Known::Judged(Verdict::Accepted),
            Some(RecordedVerdict::Duplicate) => Known::Judged(Verdict::Duplicate),
            Some(RecordedVerdict::Rejected) => {
                let reason: Option<String> = self.get(&row, "reason")?;
                Known::Judged(Verdict::Rejected { reason: reason.unwrap_or_default() })
            }
        })
    }

    /// Writes a submission down, unless it is there.
    async fn open_submission(
        &self,
        tx: &mut Tx,
        job: JobId,
        submit: &Submit,
        now: Timestamp,
    ) -> Result<bool> {
        let insert = sqlx::query(
            "INSERT INTO submissions (job, lease, proof, proof_len, client, system, program_id, kind, received_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (job, lease, proof) DO NOTHING",
        )
        .bind(Col(job))
        .bind(Col(submit.lease))
        .bind(Col(submit.proof.sha256))
        .bind(Col(submit.proof.len))
        .bind(Col(submit.client))
        .bind(Col(submit.system))
        .bind(Col(submit.program_id))
        .bind(Col(submit.kind))
        .bind(Col(now))
        .execute(&mut **tx);
        Ok(self.ok(insert.await)?.rows_affected() == 1)
    }

    pub(super) async fn record(
        &self,
        tx: &mut Tx,
        job: JobId,
        submit: &Submit,
        verdict: RecordedVerdict,
        reason: Option<String>,
    ) -> Result<Fact> {
        let update =
            sqlx::query("UPDATE submissions SET verdict = $1, reason = $2 WHERE job = $3 AND lease = $4 AND proof = $5")
                .bind(Col(verdict))
                .bind(reason)
                .bind(Col(job))
                .bind(Col(submit.lease))
                .bind(Col(submit.proof.sha256))
                .execute(&mut **tx);
        self.ok(update.await)?;
        Ok(Fact::Judged(verdict))
    }
}

/// What is known of a submission.
pub(super) enum Known {
    /// Nothing: it is new.
    New,
    /// It waits for its verdict.
    Open,
    /// Its verdict.
    Judged(Verdict),
}

/// What a client hears of a verdict: no proof counts while a job's blocks are not on the chain.
fn verdict_for_client(verdict: Verdict, state: &State) -> Verdict {
    match (verdict, state) {
        (Verdict::Accepted | Verdict::Duplicate, State::Superseded(_)) => Verdict::Superseded,
        (verdict, _) => verdict,
    }
}
