//! What must be true after every step, whatever goes wrong, and how often things happened meanwhile.

use super::{engine::Row, node::hash, world::World};
use protocol::{ArtifactId, ClientId, JobId, LeaseId, Verdict};
use server::{
    clock::Timestamp,
    jobs::{Tip, state::State},
};
use std::{collections::BTreeMap, fmt};

/// How often things happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(super) fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// How often it happened.
    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// That a simulation says something about what never happened in it, nobody should believe.
    pub(crate) fn assert_everything_happened(&self) {
        for what in [
            "steps",
            "accepted",
            "rejected",
            "duplicate",
            "superseded",
            "lost messages",
            "doubled messages",
            "failed transactions",
            "server crashes",
            "client crashes",
            "client pauses",
            "clock steps",
            "reorgs",
            "revived batches",
            "expired leases",
            "abandoned leases",
            "quarantined jobs",
            "newcomers without room",
            "late proofs",
            "stale leases",
            "answers that were lost and asked for again",
            "messages to hung servers",
            "questions to a hung node",
            "jobs taken by an operator",
            "upgrades",
            "batches with another job",
            "forgotten jobs",
            "messages about forgotten jobs",
            "lost inputs",
            "lost proofs",
            "proofs lost by another server",
        ] {
            assert!(self.of(what) > 0, "{what} never happened: {self}");
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = self.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// What an observer who knows everything remembers of a lease.
pub(super) struct Watched {
    pub(super) lease: LeaseId,
    pub(super) client: ClientId,
    pub(super) since: Timestamp,
    /// Its client may be silent until then.
    pub(super) until: Timestamp,
}

impl World {
    /// What must be true after every step, besides what the engine checks of itself.
    pub(super) fn check(&self) {
        for (job, proof) in &self.accepted {
            let row = &self.engine.rows[self.engine.find(*job)];
            let kept = row.proof.map(|kept| kept.sha256);
            assert_eq!(kept, Some(*proof), "an accepted proof is never lost or replaced");
        }
    }

    /// A verdict is durable.
    pub(super) fn judged(&mut self, job: JobId, proof: ArtifactId, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted => {
                let batch = self.engine.batch_of(job);
                assert!(!batch.superseded, "a proof of blocks that are gone was accepted");
                assert_eq!(self.artifacts[&proof].as_ref(), Some(&batch.batch.statement));
                let first = *self.accepted.entry(job).or_insert(proof);
                assert_eq!(first, proof, "two proofs were accepted for one job");
                self.counts.add("accepted");
            }
            Verdict::Duplicate => {
                assert_eq!(self.job(job).state, State::Proved);
                self.counts.add("duplicate");
            }
            Verdict::Superseded => self.counts.add("superseded"),
            Verdict::Rejected { .. } => self.counts.add("rejected"),
            Verdict::Pending { .. } => unreachable!("the store does not know it"),
        }
    }

    /// Whether blocks have no batch yet, or jobs on the chain no proof.
    pub(super) fn unfinished(&self) -> bool {
        let proved = |place: &usize| {
            let mut jobs = self.engine.jobs_of(*place).into_iter();
            jobs.any(|row| self.engine.rows[row].job.state == State::Proved)
        };
        let tip = self.engine.tip();
        let last = self.chain.len() - 1;
        tip != Some(Tip { last: last as u64, last_hash: hash(self.chain[last]) })
            || !self.engine.on_chain().iter().all(proved)
    }

    pub(super) fn picture(&self) -> String {
        let rows = self.engine.rows.iter().filter(|row| !row.forgotten);
        let job = |row: &Row| {
            let blocks = self.engine.batches[row.batch].batch.blocks;
            format!("{blocks} {} {:?}", row.target.program_id, row.job)
        };
        let jobs: Vec<_> = rows.map(job).collect();
        format!("head {} of {}\n{}", self.head, self.chain.len() - 1, jobs.join("\n"))
    }
}
