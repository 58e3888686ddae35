//! Has accepted proofs of consecutive batches folded into one.
//!
//! Each group is a job whose input is the bundle of its proofs. The server computes the folded statement itself, from statements that
//! it computed itself, and believes no other.

use super::{JobError, Jobs};
use crate::{
    artifacts::ArtifactError,
    jobs::{
        batch::DepositLinks,
        fold::{Foldable, Folding, Next, fold_id, next},
    },
    store::folds::NewFold,
};
use protocol::{BlockRange, Fail, JobId};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use verifier::bundle::{self, Member};

/// It is looked so often whether proofs are to be folded, if none was accepted here.
const LOOK: Duration = Duration::from_secs(5);

/// No more jobs that fold are added while so many wait.
const MOST_OPEN: u64 = 4;

/// It is looked so often whether something before was lost that had been folded.
const LOOK_AT_ALL: Duration = Duration::from_secs(600);

/// How far a step is.
#[derive(Default)]
struct At {
    /// What is before this block is taken.
    from: u64,
    /// Whether it was said that it cannot go on.
    told: bool,
}

/// Adds jobs that fold proofs.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The jobs.
    pub jobs: Jobs,
    /// What is made of accepted proofs, step by step.
    pub folding: Vec<Folding>,
    /// Of several servers on one database, the one that leads does it.
    pub leads: watch::Receiver<bool>,
}

impl Folder {
    /// Adds jobs, until the server stops.
    pub async fn run(self) {
        let mut steps: Vec<_> = self.folding.iter().map(|step| (step, At::default())).collect();
        let mut looked_at_all = Instant::now();
        loop {
            let inner = &self.jobs.0;
            tokio::select! {
                biased;
                () = inner.stopping.cancelled() => return,
                () = inner.proved.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            if !*self.leads.borrow() {
                continue;
            }
            // Another server of the database does not say what it lost.
            if inner.refold.swap(false, Ordering::SeqCst) || looked_at_all.elapsed() > LOOK_AT_ALL {
                looked_at_all = Instant::now();
                steps.iter_mut().for_each(|(_, at)| at.from = 0);
            }
            for (step, at) in &mut steps {
                // As long as there is something to do.
                let ended = loop {
                    match self.fold_next(step, at).await {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                };
                if let Err(error) = ended {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        code = "fold_failed",
                        error,
                        "proofs could not be folded; trying again"
                    );
                }
            }
        }
    }

    /// Adds the next job, if there is one to be added.
    async fn fold_next(&self, folding: &Folding, at: &mut At) -> Result<bool, JobError> {
        let store = self.jobs.store();
        if store.open_folds(&folding.into).await? >= MOST_OPEN {
            return Ok(false);
        }
        let Some(from) = store.first_unfolded(folding, at.from, false).await? else {
            return Ok(false);
        };
        // What lies before is taken, until something is lost.
        at.from = from;
        let proofs = store.foldable(folding, from).await?;
        let now = self.jobs.now().await?;
        let (count, whole) = match next(folding, &proofs, now) {
            Next::Wait => return Ok(false),
            Next::Fold(count, whole) => (count, whole),
            Next::Cannot(error) => {
                if !std::mem::replace(&mut at.told, true) {
                    let blocks = proofs.first().map(|proof| proof.blocks.to_string());
                    tracing::error!(code = "fold_impossible", blocks, %error, "proofs from these blocks on cannot be folded by this server");
                }
                return Ok(false);
            }
        };
        let proofs = &proofs[..count];
        let (Some(first), Some(last)) = (proofs.first(), proofs.last()) else { return Ok(false) };
        let blocks = BlockRange::new(first.blocks.first(), last.blocks.last());
        let blocks = blocks.map_err(|error| JobError::Malformed(error.to_string()))?;
        let statement = whole.abi_encode();
        let input = self.jobs.0.artifacts.put(self.bundle(proofs).await?).await?;
        let fold = NewFold {
            job: fold_id(&folding.into, &statement, input.sha256),
            target: folding.into,
            last_job: last.job,
            blocks,
            statement,
            input,
            gas_used: proofs.iter().map(|proof| proof.gas_used).fold(0, u64::saturating_add),
            transactions: proofs
                .iter()
                .map(|proof| proof.transactions)
                .fold(0, u64::saturating_add),
            deposits: Option::zip(first.deposits, last.deposits)
                .map(|(first, last)| DepositLinks { start: first.start, end: last.end }),
        };
        let added = store.add_fold(&fold, now).await?;
        if added {
            tracing::info!(job = %fold.job, kind = %folding.into.kind, %blocks, proofs = count, "job enqueued that is made of accepted proofs");
            self.jobs.0.line.news();
        }
        Ok(added)
    }

    /// The proofs, as a client gets them.
    async fn bundle(&self, proofs: &[Foldable]) -> Result<Vec<u8>, JobError> {
        let mut bytes = Vec::with_capacity(proofs.len());
        for proof in proofs {
            bytes.push(self.jobs.0.artifacts.read(proof.proof.sha256).await?);
        }
        let members = proofs.iter().zip(&bytes).map(|(it, proof)| Member {
            public_values: &it.statement,
            deposits: it.links().map(|link| link.0),
            proof,
        });
        bundle::encode(&members.collect::<Vec<_>>())
            .map_err(|error| JobError::Malformed(error.to_string()))
    }
}

impl Jobs {
    /// Has a job that folds proofs made anew, whose bundle is gone or damaged. Nobody is to blame.
    pub(super) async fn bundle_lost(
        &self,
        job: JobId,
        fail: &Fail,
        bundle: protocol::ArtifactId,
        error: &ArtifactError,
    ) -> Result<(), JobError> {
        self.0.store.input_lost(job, fail, self.now().await?).await?;
        tracing::error!(code = "bundle_lost", %job, %error, "the proofs that a job folds are lost as one file; it is made again");
        self.make_room_for(bundle).await?;
        self.0.store.forget_fold(job).await?;
        self.0.refold.store(true, Ordering::SeqCst);
        self.forget(fail.lease);
        self.0.proved.notify_one();
        Ok(())
    }
}
