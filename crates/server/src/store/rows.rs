//! Rows, read into the types that they were written from. What cannot be read was not written by this program: the
//! database is damaged.

use super::{JobStore, Result};
use crate::{
    clock::Timestamp,
    database::columns::Column,
    jobs::{
        batch::{DepositLinks, NewBatch, Target},
        party::Party,
        state::{Job, Lease, State},
    },
};
use protocol::{ArtifactRef, BlockRange, DeadCause, JobId, JobState, PartOf, PartWork};
use sqlx::any::AnyRow;

/// The columns of a job that are read: what decides about it.
macro_rules! job_columns {
    () => {
        "seq, id, batch, system, program_id, kind, state, cause, superseded, not_before, failures, failed_by, lost, lost_to, \
         lost_by, lease, lease_client, (SELECT party FROM leases WHERE leases.id = jobs.lease) AS lease_party, lease_since, \
         lease_expires_at, lease_heard, lease_handed, created_at, due, finished_at, parent, work, part_first, part_end"
    };
}

/// The kinds of the proofs that are made of accepted ones (`ProofKind::is_made_of_proofs`), as a list in SQL.
macro_rules! made_of_proofs {
    () => {
        "('aggregate', 'groth16')"
    };
}

/// The columns of a batch.
macro_rules! batch_columns {
    () => {
        "id, first, last, parent_hash, last_hash, statement, statement_digest, input, input_len, gas_used, transactions, \
         estimated_cycles, superseded_at, deposits_start, deposits_end"
    };
}

/// The columns of a client that are read.
macro_rules! client_columns {
    () => {
        "id, name, last_seen, proved, rejected, strikes, rejected_in_a_row, rests_until, quarantined, draining"
    };
}

/// The columns of a client that are shown.
macro_rules! shown_client_columns {
    () => {
        concat!(client_columns!(), ", capabilities, cycles_per_second")
    };
}

/// The columns of a submission.
macro_rules! submission_columns {
    () => {
        "job, lease, proof, proof_len, client, system, program_id, kind, received_at, verdict, reason"
    };
}

pub(crate) use {
    batch_columns, client_columns, job_columns, made_of_proofs, shown_client_columns,
    submission_columns,
};

/// A number that a caller names, as a bound of a search: the database's integers are signed, and no number beyond them is there.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A job as it stands in its row.
pub(super) struct JobRow {
    pub(super) seq: i64,
    pub(super) id: JobId,
    pub(super) target: Target,
    pub(super) job: Job,
    pub(super) created_at: Timestamp,
    pub(super) due: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    /// If it asks for a part of another job's proof.
    pub(super) part: Option<PartOf>,
}

impl JobStore {
    pub(super) fn job_row(&self, row: &AnyRow) -> Result<JobRow> {
        let lease = || -> Result<Lease> {
            let client = self.get(row, "lease_client")?;
            Ok(Lease {
                id: self.get(row, "lease")?,
                client,
                // Servers of an earlier version do not say.
                party: self
                    .get::<Option<Party>>(row, "lease_party")?
                    .unwrap_or(Party::Client(client)),
                since: self.get(row, "lease_since")?,
                expires_at: self.get(row, "lease_expires_at")?,
                heard: self.get(row, "lease_heard")?,
                // Nor this.
                handed: self.get::<Option<u32>>(row, "lease_handed")?.unwrap_or(1),
            })
        };
        let state = match self.get(row, "state")? {
            JobState::Ready => State::Ready,
            JobState::Leased => State::Leased(lease()?),
            JobState::Verifying => State::Verifying(lease()?),
            JobState::Proved => State::Proved,
            JobState::Dead | JobState::Superseded => {
                let cause: Option<DeadCause> = self.get(row, "cause")?;
                State::Dead(cause.unwrap_or(DeadCause::Budget))
            }
        };
        let state = match self.get(row, "superseded")? {
            true => State::Superseded(state.outcome()),
            false => state,
        };
        let (failures, lost_to) = (self.get(row, "failures")?, self.get(row, "lost_to")?);
        let mut failed_by: Vec<Party> =
            self.get::<Option<_>>(row, "failed_by")?.unwrap_or_default();
        // A server of an earlier version that requeues a job forgets its failures alone.
        failed_by.truncate(usize::try_from(failures).unwrap_or(usize::MAX));
        let lost_by: Option<Party> = self.get(row, "lost_by")?;
        Ok(JobRow {
            seq: self.get(row, "seq")?,
            id: self.get(row, "id")?,
            target: self.target(row)?,
            job: Job {
                state,
                not_before: self.get(row, "not_before")?,
                failures,
                failed_by,
                lost: self.get(row, "lost")?,
                lost_to,
                lost_by: lost_to.map(|client| lost_by.unwrap_or(Party::Client(client))),
            },
            created_at: self.get(row, "created_at")?,
            due: self.get(row, "due")?,
            finished_at: self.get(row, "finished_at")?,
            part: self.part_of(row)?,
        })
    }

    /// Which part of which proof a row asks for, if it asks for one.
    pub(crate) fn part_of(&self, row: &AnyRow) -> Result<Option<PartOf>> {
        let Some(parent) = self.get(row, "parent")? else { return Ok(None) };
        // A job that folds proofs has a parent, and is no part of its proof.
        let Some(work) = self.get::<Option<String>>(row, "work")? else { return Ok(None) };
        let (first, end) = (self.get(row, "part_first")?, self.get(row, "part_end")?);
        let work = match work.as_str() {
            "segments" => PartWork::Segments { first, end },
            "keccak" => PartWork::Keccak { first, end },
            "join" => PartWork::Join { first, end },
            "unite" => PartWork::Unite { end },
            "finish" => PartWork::Finish,
            other => return Err(self.damaged(format!("{other:?} is no part of a proof"))),
        };
        Ok(Some(PartOf { parent, work }))
    }

    pub(super) fn target(&self, row: &AnyRow) -> Result<Target> {
        Ok(Target {
            system: self.get(row, "system")?,
            program_id: self.get(row, "program_id")?,
            kind: self.get(row, "kind")?,
        })
    }

    pub(crate) fn job_and_target(&self, row: &AnyRow) -> Result<(JobId, Target)> {
        self.job_row(row).map(|row| (row.id, row.target))
    }

    pub(crate) fn batch(&self, row: &AnyRow) -> Result<NewBatch> {
        Ok(NewBatch {
            blocks: self.range(row)?,
            parent_hash: self.get(row, "parent_hash")?,
            last_hash: self.get(row, "last_hash")?,
            statement: self.get(row, "statement")?,
            statement_digest: self.get(row, "statement_digest")?,
            input: self.artifact(row, "input", "input_len")?,
            gas_used: self.get(row, "gas_used")?,
            transactions: self.get(row, "transactions")?,
            estimated_cycles: self.get(row, "estimated_cycles")?,
            deposits: self.deposit_links(row)?,
        })
    }

    pub(super) fn deposit_links(&self, row: &AnyRow) -> Result<Option<DepositLinks>> {
        let (start, end) = (self.get(row, "deposits_start")?, self.get(row, "deposits_end")?);
        Ok(Option::zip(start, end).map(|(start, end)| DepositLinks { start, end }))
    }

    pub(crate) fn get<T: Column>(&self, row: &AnyRow, column: &str) -> Result<T> {
        Ok(self.db.get(row, column)?)
    }

    pub(crate) fn artifact(&self, row: &AnyRow, hash: &str, len: &str) -> Result<ArtifactRef> {
        Ok(ArtifactRef { sha256: self.get(row, hash)?, len: self.get(row, len)? })
    }

    pub(super) fn range(&self, row: &AnyRow) -> Result<BlockRange> {
        BlockRange::new(self.get(row, "first")?, self.get(row, "last")?)
            .map_err(|error| self.damaged(error))
    }
}

#[cfg(test)]
mod tests {
    use protocol::ProofKind::{Aggregate, Composite, Groth16, Part, Succinct};

    #[test]
    fn what_is_made_of_proofs_is_said_once_for_all_queries() {
        for kind in [Part, Composite, Succinct, Aggregate, Groth16] {
            let listed = made_of_proofs!().contains(&format!("'{kind}'"));
            assert_eq!(listed, kind.is_made_of_proofs(), "{kind}");
        }
    }
}
