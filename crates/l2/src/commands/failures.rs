//! `l2-prover failures`: what went wrong with a job, taken to another machine and tried again there.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use protocol::{ArtifactId, ArtifactRef, JobHistory, JobId, JobState, JobSummary, paths};
use serde::{Deserialize, Serialize};
use verifier::Policy;

use crate::args::{Global, Operated, ProverArg, ZkvmArgs};
use crate::blocks::{self, Parent, StatementText};
use crate::commands::operate::{JobList, OneJob, newest, read};
use crate::commands::proofs::{fetch, pinned, save};
use crate::output::{self, Output, thousands};
use crate::provers::Workplace;

/// `l2-prover failures`
#[derive(Debug, Subcommand)]
pub(crate) enum Failures {
    /// List the jobs with which something went wrong
    List(Operated),
    /// Write a job's input, history and rejected proofs into a folder
    Export {
        /// Which
        #[command(flatten)]
        job: OneJob,
        /// The folder
        #[arg(long, default_value = "failure", value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Run the program on a folder of `export` and verify its proofs
    Replay(Replay),
}

/// `l2-prover failures replay`
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The folder
    pub folder: PathBuf,
    /// Where the program runs
    #[arg(long, value_enum, default_value_t = ProverArg::Exec)]
    pub prover: ProverArg,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// Name of the file that says what the others in the folder are.
const BUNDLE: &str = "bundle.json";
/// Name of the program's input.
const INPUT: &str = "input.bin";

/// Runs `l2-prover failures`.
pub(crate) async fn run(args: Failures, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args {
        Failures::List(operated) => {
            let path = format!("{}?troubled=true", paths::JOBS);
            let mut jobs = newest(&operated, path, usize::MAX).await?;
            // A server of the version before does not know what was asked for.
            jobs.retain(|job| {
                job.last_error.is_some() || job.lost > 0 || job.state == JobState::Dead
            });
            output.report(&JobList(jobs))
        }
        Failures::Export { job: OneJob { job, operated }, out } => {
            let bundle = Bundle {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                job: read(&operated, &paths::job(&job)).await?,
                history: read(&operated, &paths::history(&job)).await?,
            };
            std::fs::create_dir_all(&out)
                .with_context(|| format!("failed to create {}", out.display()))?;
            save(&out.join(INPUT), &fetch(&operated, &bundle.job.prover_inputs).await?)?;
            for proof in &bundle.history.proofs {
                // One that was rejected long ago may have been removed as garbage: the rest is worth having all the same.
                match fetch(&operated, &proof.proof).await {
                    Ok(bytes) => save(&out.join(proof_name(&proof.proof.sha256)), &bytes)?,
                    Err(error) => output.warn(&format!(
                        "proof {} is left out: {}",
                        proof.proof.sha256,
                        output::chain(&error)
                    )),
                }
            }
            // ORDER: last, so that a folder with this file has all of them.
            save(&out.join(BUNDLE), &serde_json::to_vec_pretty(&bundle)?)?;
            output.report(&Exported { folder: out, job })
        }
        Failures::Replay(args) => replay(args, global, output).await,
    }
}

fn proof_name(id: &ArtifactId) -> String {
    format!("{id}.proof")
}

/// What is known about a job.
#[derive(Serialize, Deserialize)]
struct Bundle {
    version: String,
    job: JobSummary,
    history: JobHistory,
}

async fn replay(args: Replay, global: &Global, output: &Output) -> anyhow::Result<()> {
    let file = args.folder.join(BUNDLE);
    let failed = || format!("{} holds no failure of `failures export`", args.folder.display());
    let bundle = std::fs::read(&file).with_context(failed)?;
    let bundle: Bundle = serde_json::from_slice(&bundle).with_context(failed)?;
    let prover = args.prover.build(&args.zkvm, Workplace::without_proofs(), global)?;
    let (folder, job) = (args.folder, bundle.job);
    let replayed = tokio::task::spawn_blocking(move || {
        let input = folder.join(INPUT);
        whole(&input, &job.prover_inputs)?;
        let executed = match blocks::from_file(&input, None, None, Parent::Required) {
            Err(error) => Attempt::Failed { error: output::chain(&error) },
            Ok(prepared) => match prover.execute(&prepared.input) {
                Err(error) => Attempt::Failed { error: output::chain(&error.into()) },
                Ok(execution) if execution.public_values != prepared.statement.abi_encode() => {
                    let error =
                        "it states something else than natively: this is a bug, please report it";
                    Attempt::Failed { error: error.to_owned() }
                }
                Ok(execution) => Attempt::Fine {
                    statement: Box::new(prepared.statement),
                    user_cycles: execution.cycles.map(|cycles| cycles.user),
                },
            },
        };
        let mut proofs = Vec::new();
        for submitted in bundle.history.proofs {
            let file = folder.join(proof_name(&submitted.proof.sha256));
            if !file.exists() {
                continue;
            }
            let bytes = whole(&file, &submitted.proof)?;
            let (system, program_id) = pinned(job.system)?;
            let verified = verifier::verify(system, program_id, &bytes, &Policy::default());
            proofs.push(Proof {
                file,
                verdict: submitted.verdict,
                reason: submitted.reason,
                here: match verified {
                    Ok(verified) => match &executed {
                        Attempt::Fine { statement, .. }
                            if statement.abi_encode() != verified.public_values =>
                        {
                            "is a proof of something else".to_owned()
                        }
                        _ => "is valid".to_owned(),
                    },
                    Err(error) => error.to_string(),
                },
            });
        }
        anyhow::Ok(Replayed {
            job: job.job,
            prover: prover.system(),
            last_error: job.last_error,
            executed,
            proofs,
        })
    });
    output.report(&replayed.await.context("replaying panicked")??)
}

/// Reads a file of the bundle and checks that it is still what it was.
fn whole(file: &Path, artifact: &ArtifactRef) -> anyhow::Result<Vec<u8>> {
    let name = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("failed to read {name}"))?;
    anyhow::ensure!(ArtifactRef::of(&bytes) == *artifact, "{name} is damaged: export it again");
    Ok(bytes)
}

#[derive(Serialize)]
struct Exported {
    folder: PathBuf,
    job: JobId,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.display();
        write!(
            f,
            "job {} in {folder}; `l2-prover failures replay {folder}` tries it again",
            self.job
        )
    }
}

#[derive(Serialize)]
struct Replayed {
    job: JobId,
    prover: protocol::ProofSystem,
    last_error: Option<String>,
    executed: Attempt,
    proofs: Vec<Proof>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Attempt {
    Fine { statement: Box<program::Statement>, user_cycles: Option<u64> },
    Failed { error: String },
}

#[derive(Serialize)]
struct Proof {
    file: PathBuf,
    verdict: Option<String>,
    reason: Option<String>,
    here: String,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.last_error {
            writeln!(f, "then: {error}")?;
        }
        match &self.executed {
            Attempt::Failed { error } => {
                write!(f, "here: the program fails in {}: {error}", self.prover)?
            }
            Attempt::Fine { statement, user_cycles } => {
                write!(f, "here: the program ends well in {}", self.prover)?;
                if let Some(cycles) = user_cycles {
                    write!(f, ", after {} cycles", thousands(*cycles))?;
                }
                write!(f, "\n{}", StatementText(statement))?;
            }
        }
        for proof in &self.proofs {
            let then = proof.verdict.as_deref().unwrap_or("not judged");
            write!(f, "\nproof {}\n  then: {then}", proof.file.display())?;
            if let Some(reason) = &proof.reason {
                write!(f, ", {reason}")?;
            }
            write!(f, "\n  here: {}", proof.here)?;
        }
        Ok(())
    }
}
