//! `l2-prover proofs`: the accepted proofs of a running server, for whoever does not want to believe it.

use std::fmt;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use program::{ChainConfig, Statement};
use protocol::{
    ArtifactRef, BlockRange, JobId, JobState, JobSummary, ProofKind, ProofSystem, paths,
};
use reqwest::Method;
use serde::Serialize;
use verifier::Policy;

use crate::args::Operated;
use crate::chain::ChainArg;
use crate::commands::operate::{MadeKind, answer, newest, request};
use crate::commands::verify::on_chain;
use crate::output::{Output, thousands};
use crate::parse;

/// `l2-prover proofs`
#[derive(Debug, Subcommand)]
pub(crate) enum Proofs {
    /// Write the accepted proofs into a folder, one file for each
    Export {
        /// Which
        #[command(flatten)]
        which: ProofBlocks,
        /// The folder
        #[arg(long, default_value = "proofs", value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Verify the accepted proofs here, against the program pinned in this version, and that each continues the one before
    Verify {
        /// Which
        #[command(flatten)]
        which: ProofBlocks,
        /// The chain whose blocks they must prove: mainnet, holesky, hoodi, sepolia, dev, anvil or a genesis file [default: any, but one]
        #[arg(long, value_name = "CHAIN")]
        chain: Option<ChainArg>,
        /// DANGER: accept proofs of the exec prover, which prove nothing
        #[arg(long)]
        danger_accept_exec: bool,
        /// DANGER: accept receipts of a zkVM's dev mode, which prove nothing
        #[arg(long)]
        danger_accept_dev_mode: bool,
    },
}

/// Proofs of a server.
#[derive(Debug, Args)]
pub(crate) struct ProofBlocks {
    /// Only proofs of these blocks: `A` or `A..B`, both included
    #[arg(long, value_parser = parse::block_range, value_name = "A..B")]
    pub block: Option<parse::BlockRange>,
    /// What the server has made of the proofs of batches, instead of these
    #[arg(long, value_enum)]
    pub kind: Option<MadeKind>,
    /// Succeed although blocks between the proofs, or of --block, have none
    #[arg(long)]
    pub allow_gaps: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// Runs `l2-prover proofs`.
pub(crate) async fn run(args: Proofs, output: &Output) -> anyhow::Result<()> {
    match args {
        Proofs::Export { which, out } => export(&which, out, output).await,
        Proofs::Verify { which, chain, danger_accept_exec, danger_accept_dev_mode } => {
            let policy = Policy { danger_accept_exec, danger_accept_dev_mode };
            if danger_accept_exec || danger_accept_dev_mode {
                output.warn("proofs of exec and of dev mode prove NOTHING.");
            }
            let chain = chain.map(|chain| chain.config()).transpose();
            verify(&which, chain.context("cannot use --chain")?.as_ref(), policy, output).await
        }
    }
}

async fn export(which: &ProofBlocks, out: PathBuf, output: &Output) -> anyhow::Result<()> {
    let jobs = proved(which).await?;
    std::fs::create_dir_all(&out).with_context(|| format!("failed to create {}", out.display()))?;
    let mut exported = Exported { folder: out, proofs: Vec::new() };
    for (job, proof) in jobs {
        let (first, last) = (job.block_numbers.first(), job.block_numbers.last());
        // Two jobs may ask for different proofs of the same blocks.
        let kind = which.kind.map_or(String::new(), |kind| format!("{}-", ProofKind::from(kind)));
        let name = format!("{first}-{last}-{kind}{}-{:.8}.proof", job.system, job.job.to_string());
        let file = exported.folder.join(name);
        save(&file, &fetch(&which.operated, &proof).await?)?;
        exported.proofs.push(ExportedProof {
            blocks: job.block_numbers,
            job: job.job,
            system: job.system,
            program_id: job.program_id,
            file,
            bytes: proof.len,
        });
    }
    let ranges: Vec<_> = exported.proofs.iter().map(|proof| proof.blocks).collect();
    output.report(&exported)?;
    which.complete(&ranges)
}

async fn verify(
    which: &ProofBlocks,
    chain: Option<&ChainConfig>,
    policy: Policy,
    output: &Output,
) -> anyhow::Result<()> {
    let (mut checked, mut ranges) = (Checked::default(), Vec::new());
    for (job, proof) in proved(which).await? {
        let blocks = job.block_numbers;
        let bytes = fetch(&which.operated, &proof).await?;
        let refused = || format!("the proof of blocks {blocks} (job {}) is refused", job.job);
        let statement = check(&job, &bytes, &policy).with_context(refused)?;
        if let Some(chain) = chain {
            on_chain(&statement, chain).with_context(refused)?;
        }
        for run in &checked.runs {
            agrees(&run.end, &statement)?;
        }
        ranges.push(blocks);
        checked.proofs += 1;
        let count = (blocks.last() - blocks.first()).saturating_add(1);
        checked.blocks = checked.blocks.saturating_add(count);
        // Proofs of two systems are of the same blocks: each system has runs of its own.
        let run = checked.runs.iter_mut().rfind(|run| run.system == job.system);
        let next = Some(statement.first_number);
        match run.filter(|run| run.end.last_number.checked_add(1) == next) {
            Some(run) => {
                (run.last, run.last_hash, run.end) = (blocks, statement.last_hash, statement)
            }
            None => checked.runs.push(Run {
                system: job.system,
                first: blocks,
                last: blocks,
                last_hash: statement.last_hash,
                end: statement,
            }),
        }
    }
    output.report(&checked)?;
    which.complete(&ranges)
}

impl ProofBlocks {
    /// Whether the proofs, in the order of their blocks, leave none out.
    fn complete(&self, proven: &[BlockRange]) -> anyhow::Result<()> {
        let missing = gaps(proven, self.block);
        ensure!(
            self.allow_gaps || missing.is_empty(),
            "no accepted proof of blocks {} (--allow-gaps if that is expected)",
            missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        );
        Ok(())
    }
}

/// The blocks without a proof: of those asked for or, if none were named, of those between the first proof and the last.
fn gaps(proven: &[BlockRange], asked: Option<parse::BlockRange>) -> Vec<BlockRange> {
    let (mut next, end) = match (asked, proven.first()) {
        (Some(asked), _) => (asked.first(), asked.last()),
        (None, None) => return Vec::new(),
        (None, Some(first)) => {
            (first.first(), proven.iter().map(|range| range.last()).max().unwrap_or(0))
        }
    };
    let mut missing = Vec::new();
    for range in proven {
        missing.extend(BlockRange::new(next, end.min(range.first().saturating_sub(1))));
        next = next.max(range.last().saturating_add(1));
    }
    missing.extend(BlockRange::new(next, end));
    missing
}

/// Whether two proofs, the first of which begins no later, can be of one chain: the second continues the first, is of the same blocks, or
/// leaves blocks between them out.
fn agrees(before: &Statement, after: &Statement) -> anyhow::Result<()> {
    let same = before.first_number == after.first_number
        && before.last_number == after.last_number
        && before.parent_hash == after.parent_hash
        && before.last_hash == after.last_hash
        && before.post_state_root == after.post_state_root;
    let joins = match before.last_number.checked_add(1) {
        Some(next) if next < after.first_number => true,
        // SOUNDNESS: proofs of two pieces prove the chain only if the second one begins where the first one ended.
        Some(next) if next == after.first_number => {
            before.last_hash == after.parent_hash && before.post_state_root == after.pre_state_root
        }
        // SOUNDNESS: proofs that share blocks without being of the same ones may be of two chains; nothing shows which.
        _ => same,
    };
    // SOUNDNESS: proofs of two pieces are of one chain only if both ran under the same rules.
    ensure!(
        joins && before.chain_config_digest == after.chain_config_digest,
        "the proof of blocks {} to {} does not continue the one of blocks {} to {}",
        after.first_number,
        after.last_number,
        before.first_number,
        before.last_number
    );
    Ok(())
}

/// What the proof states about the job's blocks. The server's word counts for nothing: the program is one of the two pinned here.
fn check(job: &JobSummary, proof: &[u8], policy: &Policy) -> anyhow::Result<Statement> {
    let (system, program_id) = pinned(job.system)?;
    let folds = system.aggregate_id();
    // SOUNDNESS: a pinned program, whatever the server says that it asked for.
    let pinned =
        if job.kind.is_made_of_proofs() && job.program_id.0 == folds { folds } else { program_id };
    let verified = verifier::verify(system, pinned, proof, policy)?;
    let statement = Statement::abi_decode(&verified.public_values)?;
    let blocks = BlockRange::new(statement.first_number, statement.last_number)?;
    ensure!(blocks == job.block_numbers, "it is of blocks {blocks}");
    Ok(statement)
}

/// The verifier of a proof system, and our program there.
pub(super) fn pinned(system: ProofSystem) -> anyhow::Result<(verifier::System, [u8; 32])> {
    let verifier = server::jobs::verification::verifier_of(system)
        .with_context(|| format!("this version verifies no proofs of {system}"))?;
    Ok((verifier, verifier.program_id()))
}

/// The proved jobs with a block in the range, by their blocks.
async fn proved(which: &ProofBlocks) -> anyhow::Result<Vec<(JobSummary, ArtifactRef)>> {
    let mut query = format!("{}?state={}", paths::JOBS, JobState::Proved.name());
    if let Some(kind) = which.kind {
        query += &format!("&kind={}", ProofKind::from(kind));
    }
    if let Some(blocks) = which.block {
        query += &format!("&first={}&last={}", blocks.first(), blocks.last());
    }
    let mut jobs = newest(&which.operated, query, usize::MAX).await?;
    // What the server lists beside what was asked for does not count.
    jobs.retain(|job| job.proof.is_some());
    ensure!(!jobs.is_empty(), "the Prover Server has no proof of these blocks");
    let mut proved: Vec<_> =
        jobs.into_iter().filter_map(|job| job.proof.map(|proof| (job, proof))).collect();
    proved.sort_by_key(|(job, _)| (job.block_numbers.first(), job.block_numbers.last()));
    Ok(proved)
}

/// Downloads an artifact and checks that it is the one asked for.
pub(super) async fn fetch(operated: &Operated, artifact: &ArtifactRef) -> anyhow::Result<Vec<u8>> {
    let request = request(operated, Method::GET, &paths::artifact(&artifact.sha256))?;
    let bytes = answer(request).await?.bytes().await.context("the download broke off")?;
    ensure!(
        ArtifactRef::of(&bytes) == *artifact,
        "the Prover Server sent other bytes than artifact {}",
        artifact.sha256
    );
    Ok(bytes.into())
}

/// Writes a file. Under its name there is only ever all of it.
pub(super) fn save(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("failed to write {}", file.display());
    // A device or a pipe is written to, and never replaced.
    if file.metadata().is_ok_and(|it| !it.is_file() && !it.is_dir()) {
        return std::fs::write(file, bytes).with_context(failed);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let temporary =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(".".as_ref())).with_context(failed)?;
    std::fs::write(temporary.path(), bytes).with_context(failed)?;
    temporary.persist(file).with_context(failed)?;
    Ok(())
}

#[derive(Serialize)]
struct Exported {
    folder: PathBuf,
    proofs: Vec<ExportedProof>,
}

#[derive(Serialize)]
struct ExportedProof {
    blocks: BlockRange,
    job: JobId,
    system: ProofSystem,
    program_id: B256,
    file: PathBuf,
    bytes: u64,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for proof in &self.proofs {
            let file = proof.file.display();
            writeln!(f, "blocks {}: {file} ({} bytes)", proof.blocks, thousands(proof.bytes))?;
        }
        write!(f, "{} proofs in {}", self.proofs.len(), self.folder.display())
    }
}

#[derive(Default, Serialize)]
struct Checked {
    proofs: u64,
    blocks: u64,
    runs: Vec<Run>,
}

/// Blocks without a gap, proven by one proof system.
#[derive(Serialize)]
struct Run {
    system: ProofSystem,
    #[serde(rename = "first_proof")]
    first: BlockRange,
    #[serde(rename = "last_proof")]
    last: BlockRange,
    last_hash: B256,
    /// What its last proof states.
    #[serde(skip)]
    end: Statement,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            let (first, last) = (run.first.first(), run.last.last());
            writeln!(f, "blocks {first} to {last} are proven, up to hash {}", run.last_hash)?;
        }
        write!(f, "{} proofs of {} blocks hold", self.proofs, thousands(self.blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement {
            version: program::statement::VERSION,
            chain_config_digest: B256::repeat_byte(1),
            parent_hash: B256::repeat_byte(2),
            last_hash: B256::repeat_byte(3),
            first_number: 1,
            last_number: 4,
            pre_state_root: B256::repeat_byte(4),
            post_state_root: B256::repeat_byte(5),
            deposits_digest: B256::ZERO,
            deposits_count: 0,
            messages_root: B256::ZERO,
            last_timestamp: 0,
            data_commitment: B256::ZERO,
            beneficiary: alloy_primitives::Address::ZERO,
        }
    }

    #[test]
    fn the_program_is_the_pinned_one_whatever_the_server_asked_for() {
        let proof = statement().abi_encode();
        let job = JobSummary {
            job: JobId::from_bytes([0; 16]),
            block_numbers: BlockRange::new(1, 4).expect("not empty"),
            state: JobState::Proved,
            cause: None,
            priority: 0,
            system: ProofSystem::Exec,
            program_id: B256::repeat_byte(6),
            kind: ProofKind::Composite,
            part: None,
            gas_used: 0,
            transactions: 0,
            prover_inputs: ArtifactRef::of(b""),
            client: None,
            progress: None,
            created_at: 0,
            leased_at: None,
            finished_at: None,
            failures: 0,
            lost: 0,
            proof: Some(ArtifactRef::of(&proof)),
            last_error: None,
        };
        let policy = Policy { danger_accept_exec: true, ..Policy::default() };
        assert_eq!(check(&job, &proof, &policy).expect("of our program"), statement());
        assert!(check(&job, &proof, &Policy::default()).is_err());
    }

    #[test]
    fn blocks_without_a_proof_are_named() {
        let range = |first, last| BlockRange::new(first, last).expect("not empty");
        let asked = |text| Some(parse::block_range(text).expect("a range"));
        let proven = [range(3, 4), range(3, 6), range(9, 9)];
        assert_eq!(gaps(&proven, None), [range(7, 8)]);
        assert_eq!(gaps(&proven, asked("2..12")), [range(2, 2), range(7, 8), range(10, 12)]);
        assert_eq!(gaps(&proven, asked("4..6")), []);
        assert_eq!(gaps(&proven[..2], None), []);
        assert_eq!(gaps(&[], None), []);
        assert_eq!(gaps(&[], asked("1..8")), [range(1, 8)]);
        assert_eq!(gaps(&[range(0, u64::MAX)], asked("1..8")), []);
    }

    #[test]
    fn proofs_that_do_not_join_are_no_proof_of_the_chain() {
        let before = statement();
        let after = Statement {
            parent_hash: before.last_hash,
            pre_state_root: before.post_state_root,
            first_number: 5,
            last_number: 5,
            ..before.clone()
        };
        agrees(&before, &after).expect("they join");
        agrees(&before, &before.clone()).expect("they are of the same blocks");
        let later = Statement { first_number: 7, last_number: 9, ..after.clone() };
        agrees(&before, &later).expect("nothing is said of what lies between");
        let other = B256::repeat_byte(9);
        for broken in [
            Statement { parent_hash: other, ..after.clone() },
            Statement { pre_state_root: other, ..after.clone() },
            Statement { chain_config_digest: other, ..after.clone() },
            Statement { chain_config_digest: other, ..later },
            // They share blocks.
            Statement { first_number: 4, ..after.clone() },
            Statement { first_number: 2, last_number: 3, ..after.clone() },
            Statement { last_hash: other, ..before.clone() },
            Statement { parent_hash: other, ..before.clone() },
            Statement { last_number: u64::MAX, ..before.clone() },
        ] {
            let error = agrees(&before, &broken).expect_err("they do not join").to_string();
            assert!(error.contains("does not continue the one of blocks 1 to 4"), "{error}");
        }
        let endless = Statement { last_number: u64::MAX, ..before };
        assert!(agrees(&endless, &after).is_err());
    }
}
