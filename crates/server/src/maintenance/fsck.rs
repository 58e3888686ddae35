//! Whether the jobs and their artifacts are as this program leaves them. Reads only.
//!
//! A finding is somebody else's doing: a disk, a hand, a restored backup. It says what is wrong and what to do.

use crate::{
    artifacts::{ArtifactError, Artifacts, Place, Sharing},
    config::Config,
    data_folder::{existing, lock},
    database::{Database, Schema, Tx},
    error::Error,
    jobs::{
        batch::{NewBatch, Tip, follows, job_id},
        fold::fold_id,
        parts::part_id,
    },
    store::{
        JobStore, StoreError,
        rows::{batch_columns, job_columns, made_of_proofs},
    },
};
use alloy_primitives::{hex, keccak256};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Batches looked at.
    pub batches: u64,
    /// Jobs looked at.
    pub jobs: u64,
    /// Artifacts read and hashed: inputs of jobs that are not proved, proofs of those that are, proofs without a verdict.
    pub artifacts: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: a job, a lease, a batch or an artifact.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// What an operator should do.
    pub advice: &'static str,
}

/// Rows that must not exist. `sql` names them in a column `subject`.
struct Check {
    subject: &'static str,
    problem: &'static str,
    sql: &'static str,
}

const RESTORE: &str =
    "rows were changed by hand or lost: stop all servers and restore the database from a backup";

const RESTORE_ARTIFACT: &str = "put the file back from a backup of the artifact folder";

const CHECKS: [Check; 19] = [
    Check {
        subject: "batch",
        problem: "has no job",
        sql: "SELECT statement_digest AS subject FROM batches b WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.batch = b.id
              AND j.parent IS NULL)",
    },
    Check {
        subject: "batch",
        problem: "has a job that is not proved, but is not listed with those",
        sql: "SELECT statement_digest AS subject FROM batches b WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.batch = b.id
              AND j.parent IS NULL AND j.state <> 'proved') AND NOT EXISTS (SELECT 1 FROM unproved u WHERE u.batch = b.id AND u.first = b.first)",
    },
    Check {
        subject: "program",
        problem: "has another number of jobs in some state than was counted",
        sql: "SELECT program_id AS subject FROM (SELECT system, program_id, kind, state, superseded, jobs FROM job_counts
              UNION ALL SELECT system, program_id, kind, state, superseded, -1 FROM jobs) AS counted
              GROUP BY system, program_id, kind, state, superseded HAVING sum(jobs) <> 0",
    },
    Check {
        subject: "job",
        problem: "is superseded, but its batch is on the chain",
        sql: "SELECT j.id AS subject FROM jobs j JOIN batches b ON b.id = j.batch
              WHERE b.superseded_at IS NULL AND j.superseded <> 0",
    },
    Check {
        subject: "job",
        problem: "is not superseded, but its batch is",
        sql: "SELECT j.id AS subject FROM jobs j JOIN batches b ON b.id = j.batch
              WHERE b.superseded_at IS NOT NULL AND j.superseded = 0",
    },
    Check {
        subject: "job",
        problem: "is superseded, but a client has it",
        sql: "SELECT id AS subject FROM jobs WHERE superseded = 1 AND state IN ('leased', 'verifying')",
    },
    Check {
        subject: "job",
        problem: "has no batch",
        sql: "SELECT id AS subject FROM jobs j WHERE NOT EXISTS (SELECT 1 FROM batches b WHERE b.id = j.batch)",
    },
    Check {
        subject: "lease",
        problem: "has no job",
        sql: "SELECT id AS subject FROM leases l WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = l.job)",
    },
    Check {
        subject: "lease",
        problem: "is of a client that never asked for work",
        sql: "SELECT id AS subject FROM leases l WHERE NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = l.client)",
    },
    Check {
        subject: "proof",
        problem: "was handed in for a job that is not there",
        sql: "SELECT proof AS subject FROM submissions s WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = s.job)",
    },
    Check {
        subject: "job",
        problem: "is held under a lease that ended, or is of another job or client",
        sql: "SELECT j.id AS subject FROM jobs j LEFT JOIN leases l ON l.id = j.lease WHERE j.state IN ('leased', 'verifying')
              AND (l.id IS NULL OR l.ended_at IS NOT NULL OR l.job <> j.id OR l.client <> j.lease_client)",
    },
    Check {
        subject: "lease",
        problem: "has not ended, but its job is not held under it",
        sql: "SELECT l.id AS subject FROM leases l JOIN jobs j ON j.id = l.job
              WHERE l.ended_at IS NULL AND (j.lease IS NULL OR j.lease <> l.id)",
    },
    Check {
        subject: "job",
        problem: "is proved, but its proof was never accepted",
        sql: "SELECT j.id AS subject FROM jobs j WHERE j.state = 'proved' AND NOT EXISTS (SELECT 1 FROM submissions s
              WHERE s.job = j.id AND s.proof = j.proof AND s.verdict = 'accepted')",
    },
    Check {
        subject: "job",
        problem: "is not proved by the proof that was accepted for it",
        sql: "SELECT j.id AS subject FROM jobs j JOIN submissions s ON s.job = j.id
              WHERE s.verdict = 'accepted' AND (j.proof IS NULL OR j.proof <> s.proof)",
    },
    Check {
        subject: "job",
        problem: "is being verified, but no proof waits for its verdict",
        sql: "SELECT j.id AS subject FROM jobs j WHERE j.state = 'verifying' AND NOT EXISTS (SELECT 1 FROM submissions s
              WHERE s.job = j.id AND s.lease = j.lease AND s.verdict IS NULL)",
    },
    Check {
        subject: "job",
        problem: "asks for a part of the proof of a job that is not there, or of another batch",
        sql: "SELECT p.id AS subject FROM jobs p WHERE p.kind = 'part' AND (p.parent IS NULL OR NOT EXISTS
              (SELECT 1 FROM jobs j WHERE j.id = p.parent AND j.batch = p.batch AND j.parent IS NULL))",
    },
    Check {
        subject: "job",
        problem: "folds proofs, but nothing says which, or its last batch is another",
        sql: concat!(
            "SELECT j.id AS subject FROM jobs j WHERE j.kind IN ",
            made_of_proofs!(),
            " AND NOT EXISTS (SELECT 1 FROM folds f
              JOIN batches b ON b.id = j.batch JOIN jobs p ON p.id = j.parent
              WHERE f.job = j.id AND f.last = b.last AND p.batch = j.batch)"
        ),
    },
    Check {
        subject: "job",
        problem: "is lent in parts, but there is no plan of its run",
        sql: "SELECT j.id AS subject FROM jobs j WHERE j.split = 2 AND NOT EXISTS (SELECT 1 FROM splits s WHERE s.job = j.id)",
    },
    Check {
        subject: "job",
        problem: "is lent whole, but there is a plan of its run",
        sql: "SELECT s.job AS subject FROM splits s WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = s.job AND j.split = 2)",
    },
];

/// Checks the server with these settings, of which only `data_dir`, `database` and `artifacts` matter.
///
/// # Errors
/// [`Error::FolderInUse`] if a server with SQLite runs there; anything that cannot be opened or read.
pub async fn run(config: &Config) -> Result<Report, Error> {
    config.check()?;
    let (db, _lock) = match &config.database {
        Some(url) => (Database::postgres(url, Schema::AsItIs).await?, None),
        None => {
            let file = existing(&config.data_dir)?;
            let lock = lock(&config.data_dir, Sharing::Alone)?;
            (Database::sqlite(&file, Schema::AsItIs).await?, Some(lock))
        }
    };
    let place = config.artifacts_place();
    if let Place::Folder(folder, _) = &place
        && config.database.is_some()
        && !folder.exists()
    {
        return Err(Error::NoArtifacts(folder.clone()));
    }
    let store = JobStore::reading(db);
    let report = store.fsck(&Artifacts::existing(&place)?).await;
    store.close().await;
    Ok(report?)
}

impl JobStore {
    /// Checks every invariant of the jobs, and the artifacts that are still needed.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read, or holds values that this program cannot have written.
    pub async fn fsck(&self, artifacts: &Artifacts) -> Result<Report, StoreError> {
        let mut report = Report::default();
        // One transaction: servers that go on meanwhile do not blur the picture.
        let mut tx = self.database().begin_reading().await?;
        if self.database().shared().is_some() {
            // What is read is looked at for a while.
            let patience = "SET LOCAL idle_in_transaction_session_timeout = 0";
            self.ok(sqlx::query(patience).execute(&mut *tx).await)?;
        }
        for check in &CHECKS {
            let rows = sqlx::query(check.sql).fetch_all(&mut *tx).await;
            for row in self.database().ok(rows)? {
                let subject: Vec<u8> = self.get(&row, "subject")?;
                report.findings.push(Finding {
                    subject: format!("{} {}", check.subject, hex::encode(&subject)),
                    problem: check.problem.into(),
                    advice: RESTORE,
                });
            }
        }
        self.check_chain(&mut tx, &mut report).await?;
        let needed = self.needed_artifacts(&mut tx).await?;
        drop(tx);
        let mut seen = HashSet::new();
        for (artifact, reason) in needed {
            // All jobs of a batch have one input.
            if !seen.insert(artifact.sha256) {
                continue;
            }
            report.artifacts += 1;
            let problem = match artifacts.read(artifact.sha256).await {
                Ok(bytes) if bytes.len() as u64 == artifact.len => continue,
                Ok(bytes) => format!("has {} bytes, not {}", bytes.len(), artifact.len),
                Err(ArtifactError::Missing(_)) => "is missing".to_owned(),
                Err(error) => error.to_string(),
            };
            let subject = format!("artifact {}", artifact.sha256);
            let problem = format!("{problem}; it is {reason}");
            report.findings.push(Finding { subject, problem, advice: RESTORE_ARTIFACT });
        }
        Ok(report)
    }

    /// Batches on the chain follow one another, statements have their digests, and jobs the ids that follow from both.
    async fn check_chain(&self, tx: &mut Tx, report: &mut Report) -> Result<(), StoreError> {
        let mut findings = Vec::new();
        let mut find =
            |subject, problem| findings.push(Finding { subject, problem, advice: RESTORE });
        let (mut tip, mut batches): (Option<Tip>, HashMap<i64, NewBatch>) = Default::default();
        let mut deposits = None;
        let rows =
            sqlx::query(concat!("SELECT ", batch_columns!(), " FROM batches ORDER BY first, id"))
                .fetch_all(&mut **tx)
                .await;
        for row in self.database().ok(rows)? {
            let batch = self.batch(&row)?;
            let subject = || format!("batch of blocks {}", batch.blocks);
            if self.get::<Option<u64>>(&row, "superseded_at")?.is_none() {
                if let Some(Err(unlinked)) = tip.as_ref().map(|tip| follows(tip, &batch)) {
                    find(subject(), unlinked.to_string());
                }
                tip = Some(Tip { last: batch.blocks.last(), last_hash: batch.last_hash });
                if let Some(links) = batch.deposits {
                    if deposits.is_some_and(|end| end != links.start) {
                        find(subject(), "has deposits that do not follow those before it".into());
                    }
                    deposits = Some(links.end);
                }
            }
            if keccak256(&batch.statement) != batch.statement_digest {
                find(subject(), "has another statement than its digest says".into());
            }
            batches.insert(self.get(&row, "id")?, batch);
        }
        report.batches = batches.len() as u64;
        let rows = sqlx::query(concat!(
            "SELECT ",
            job_columns!(),
            ", part_plan, (SELECT statement FROM folds f WHERE f.job = jobs.id) AS folded,
                (SELECT input FROM folds f WHERE f.job = jobs.id) AS bundle FROM jobs ORDER BY seq"
        ))
        .fetch_all(&mut **tx)
        .await;
        for row in self.database().ok(rows)? {
            report.jobs += 1;
            let (job, target) = self.job_and_target(&row)?;
            let batch = batches.get(&self.get::<i64>(&row, "batch")?);
            let folded: Option<Vec<u8>> = self.get(&row, "folded")?;
            let expected = match self.part_of(&row)? {
                None if folded.is_some() => {
                    Some(fold_id(&target, &folded.unwrap_or_default(), self.get(&row, "bundle")?))
                }
                Some(part) => Some(part_id(part.parent, self.get(&row, "part_plan")?, &part.work)),
                None => batch.map(|batch| job_id(batch, &target)),
            };
            if expected.is_some_and(|expected| expected != job) {
                find(format!("job {job}"), "asks for something else than its id says".into());
            }
        }
        report.findings.extend(findings);
        Ok(())
    }
}
