//! Rows, read into the types that they were written from. What cannot be read was not written by this program: the
//! database is damaged.

use super::{JobStore, Result};
use crate::{
    clock::Timestamp,
    jobs::{
        batch::{NewBatch, Target},
        state::{Job, Lease, State},
    },
};
use protocol::{
    ArtifactId, ArtifactRef, BlockRange, ClientId, DeadCause, JobId, JobState, LeaseId,
};
use sqlx::{Any, Row, any::AnyRow};

/// The columns of a job that are read: what decides about it.
macro_rules! job_columns {
    () => {
        "seq, id, batch, system, program_id, kind, state, cause, superseded, not_before, failures, lost, lost_to, lease, \
         lease_client, lease_since, lease_expires_at, lease_heard, lease_handed, created_at, due, finished_at"
    };
}

/// The columns of a batch.
macro_rules! batch_columns {
    () => {
        "id, first, last, parent_hash, last_hash, statement, statement_digest, input, input_len, gas_used, transactions, \
         estimated_cycles, superseded_at"
    };
}

/// The columns of a client that are read.
macro_rules! client_columns {
    () => {
        "id, last_seen, proved, rejected, strikes, rejected_in_a_row, rests_until, quarantined, draining"
    };
}

/// The columns of a submission.
macro_rules! submission_columns {
    () => {
        "job, lease, proof, proof_len, client, system, program_id, kind, received_at, verdict, reason"
    };
}

pub(crate) use {batch_columns, client_columns, job_columns, submission_columns};

/// A job as it stands in its row.
pub(super) struct JobRow {
    pub(super) seq: i64,
    pub(super) id: JobId,
    pub(super) target: Target,
    pub(super) job: Job,
    pub(super) created_at: Timestamp,
    pub(super) due: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
}

impl JobStore {
    pub(super) fn job_row(&self, row: &AnyRow) -> Result<JobRow> {
        let lease = || -> Result<Lease> {
            Ok(Lease {
                id: LeaseId::from_bytes(self.bytes(row, "lease")?),
                client: ClientId::from_bytes(self.bytes(row, "lease_client")?),
                since: Timestamp(self.uint(row, "lease_since")?),
                expires_at: Timestamp(self.uint(row, "lease_expires_at")?),
                heard: self.optional_uint(row, "lease_heard")?.map(Timestamp),
                // Rows of an earlier version do not say.
                handed: self
                    .optional_uint(row, "lease_handed")?
                    .map_or(Ok(1), |n| u32::try_from(n).map_err(|error| self.damaged(error)))?,
            })
        };
        let state = match self.state_name(row)? {
            JobState::Ready => State::Ready,
            JobState::Leased => State::Leased(lease()?),
            JobState::Verifying => State::Verifying(lease()?),
            JobState::Proved => State::Proved,
            JobState::Dead | JobState::Superseded => {
                State::Dead(match self.optional_text(row, "cause")?.as_deref() {
                    None => DeadCause::Budget,
                    Some("quarantined") => DeadCause::Quarantined,
                    Some("cancelled") => DeadCause::Cancelled,
                    Some(_) => return Err(self.damaged("a job is dead for no known cause")),
                })
            }
        };
        let state = match self.uint(row, "superseded")? {
            0 => state,
            _ => State::Superseded(state.outcome()),
        };
        Ok(JobRow {
            seq: self.get(row, "seq")?,
            id: JobId::from_bytes(self.bytes(row, "id")?),
            target: self.target(row)?,
            job: Job {
                state,
                not_before: Timestamp(self.uint(row, "not_before")?),
                failures: self.small(row, "failures")?,
                lost: self.small(row, "lost")?,
                lost_to: match self.get::<Option<Vec<u8>>>(row, "lost_to")? {
                    Some(_) => Some(ClientId::from_bytes(self.bytes(row, "lost_to")?)),
                    None => None,
                },
            },
            created_at: Timestamp(self.uint(row, "created_at")?),
            due: Timestamp(self.uint(row, "due")?),
            finished_at: self.optional_uint(row, "finished_at")?.map(Timestamp),
        })
    }

    pub(super) fn target(&self, row: &AnyRow) -> Result<Target> {
        Ok(Target {
            system: self.parsed(row, "system")?,
            program_id: self.bytes(row, "program_id")?.into(),
            kind: self.parsed(row, "kind")?,
        })
    }

    pub(crate) fn job_and_target(&self, row: &AnyRow) -> Result<(JobId, Target)> {
        self.job_row(row).map(|row| (row.id, row.target))
    }

    pub(crate) fn batch(&self, row: &AnyRow) -> Result<NewBatch> {
        Ok(NewBatch {
            blocks: self.range(row)?,
            parent_hash: self.bytes(row, "parent_hash")?.into(),
            last_hash: self.bytes(row, "last_hash")?.into(),
            statement: self.get(row, "statement")?,
            statement_digest: self.bytes(row, "statement_digest")?.into(),
            input: self.artifact(row, "input", "input_len")?,
            gas_used: self.uint(row, "gas_used")?,
            transactions: self.uint(row, "transactions")?,
            estimated_cycles: self.uint(row, "estimated_cycles")?,
        })
    }

    pub(super) fn state_name(&self, row: &AnyRow) -> Result<JobState> {
        let text: String = self.get(row, "state")?;
        let states = [
            JobState::Ready,
            JobState::Leased,
            JobState::Verifying,
            JobState::Proved,
            JobState::Dead,
        ];
        let found = states.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| self.damaged("a job is in no known state"))
    }

    pub(crate) fn get<'r, T>(&self, row: &'r AnyRow, column: &str) -> Result<T>
    where
        T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
    {
        row.try_get(column).map_err(|error| self.damaged(error))
    }

    pub(crate) fn uint(&self, row: &AnyRow, column: &str) -> Result<u64> {
        Ok(self.get::<i64>(row, column)?.cast_unsigned())
    }

    pub(crate) fn optional_uint(&self, row: &AnyRow, column: &str) -> Result<Option<u64>> {
        Ok(self.get::<Option<i64>>(row, column)?.map(i64::cast_unsigned))
    }

    pub(super) fn small(&self, row: &AnyRow, column: &str) -> Result<u32> {
        u32::try_from(self.uint(row, column)?).map_err(|error| self.damaged(error))
    }

    pub(crate) fn optional_text(&self, row: &AnyRow, column: &str) -> Result<Option<String>> {
        self.get(row, column)
    }

    pub(crate) fn bytes<const N: usize>(&self, row: &AnyRow, column: &str) -> Result<[u8; N]> {
        let bytes: Vec<u8> = self.get(row, column)?;
        bytes
            .try_into()
            .map_err(|_| self.damaged(format!("column {column} does not have {N} bytes")))
    }

    pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        row: &AnyRow,
        column: &str,
    ) -> Result<T> {
        self.get::<String>(row, column)?.parse().map_err(|error| self.damaged(error))
    }

    pub(crate) fn artifact(&self, row: &AnyRow, hash: &str, len: &str) -> Result<ArtifactRef> {
        Ok(ArtifactRef {
            sha256: ArtifactId::from_bytes(self.bytes(row, hash)?),
            len: self.uint(row, len)?,
        })
    }

    pub(super) fn range(&self, row: &AnyRow) -> Result<BlockRange> {
        BlockRange::new(self.uint(row, "first")?, self.uint(row, "last")?)
            .map_err(|error| self.damaged(error))
    }
}

/// SQLite's integers are signed; ours go in and come out bit by bit. (Order holds for every number a chain can reach.)
pub(super) fn int(number: u64) -> i64 {
    number.cast_signed()
}

pub(crate) fn blob(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
