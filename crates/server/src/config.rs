//! The server's settings.

mod limits;

pub use limits::Limits;

use crate::artifacts::{Place, Sharing};
use crate::database::DatabaseUrl;
use crate::jobs::{
    batch::{Target, Targets},
    crew::SIZES,
    fold::{Folding, MOST_FOLDED},
    verification::verifier_of,
};
use alloy_primitives::{Address, B256};
use protocol::{ProofKind, ProofSystem};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};
use url::Url;

/// Settings of a Prover Server. Every key may be left out; an unknown key is an error. Durations are written as `"30s"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on.
    pub listen_ip: IpAddr,
    /// Port to listen on. 0 takes any free one.
    pub listen_port: u16,
    /// Whether callers need a token where only this machine can reach the server. Elsewhere they always do, unless
    /// [`danger_listen_without_auth`](Self::danger_listen_without_auth) is set.
    pub auth: Auth,
    /// The server's certificate, and those that lead to its authority: a file in PEM. It is read anew every minute.
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate: a file in PEM.
    pub tls_key: Option<PathBuf>,
    /// The authorities of client certificates: a file in PEM. With it, nobody connects without such a certificate.
    pub tls_client_ca: Option<PathBuf>,
    /// What one peer may have of the server.
    pub limits: Limits,
    /// Folder of the artifacts and, without [`database`](Self::database), of the jobs. Made if it is missing. One server at
    /// a time may use it, or all servers on one PostgreSQL database, which must share it.
    pub data_dir: PathBuf,
    /// A PostgreSQL database for the jobs, which several servers may use. Left out: SQLite in the folder.
    pub database: Option<DatabaseUrl>,
    /// An S3-compatible store for the artifacts, `s3://BUCKET/PREFIX`: see [`Place::S3`]. Left out: the folder.
    pub artifacts: Option<Url>,

    /// The proof system that jobs ask for.
    #[serde(rename = "prover", alias = "system")]
    pub system: ProofSystem,
    /// The program that jobs ask for. Left out: the one pinned in the verifier for that proof system.
    pub program_id: Option<B256>,
    /// The kind of proof that jobs ask for.
    pub kind: ProofKind,
    /// Whether a proof is made by several clients: each job is divided into parts. The proofs wanted must be succinct ones.
    pub split: bool,
    /// The size of the parts' segments, as a power of two of cycles. Left out: the size with which the clients that ask prove most.
    pub split_segment_po2: Option<u32>,
    /// A run with fewer segments is not divided.
    pub split_least_segments: u32,
    /// So many proofs of consecutive batches are folded into one, which is a job of its own. Needs succinct proofs.
    pub aggregate: Option<u32>,
    /// Proofs that have waited for so long for others to be folded with are folded with fewer.
    #[serde(with = "humantime_serde")]
    pub aggregate_after: Duration,
    /// Each proof, folded if they are, is turned into one of 256 bytes, which contracts verify. Needs succinct proofs.
    pub groth16: bool,
    /// Who may claim the rewards of the proofs, as their statements say. Left out: nobody.
    pub beneficiary: Option<Address>,

    /// On a chain with a bridge, the link of the chain of deposits before the first block. Left out: the first of all, if the first block
    /// is block 1.
    pub deposits_start: Option<B256>,
    /// The first block to prove, when the database is still empty.
    #[serde(alias = "start_block")]
    pub first_block: u64,
    /// Blocks in a batch.
    pub batch_blocks: u64,
    /// A batch of several blocks is cut in half until its proof is expected to take no more cycles, judging by
    /// what the latest proofs took. A block that is expected to take more is a batch by itself.
    pub max_batch_cycles: u64,
    /// Likewise, until its blocks use no more gas. Left out: no limit.
    pub max_batch_gas: Option<u64>,
    /// Likewise, until its input has no more bytes. Left out: no limit.
    pub max_batch_bytes: Option<u64>,
    /// A batch is made of fewer blocks than [`batch_blocks`](Self::batch_blocks) when its first one has waited so long.
    /// Left out: it waits until it is full.
    #[serde(with = "humantime_serde")]
    pub max_batch_age: Option<Duration>,
    /// A reorg may take away so many blocks that were enqueued; a longer one halts the intake.
    pub max_reorg_blocks: u64,
    /// Batches that are prepared at the same time, while the server is behind the node.
    pub prepare_ahead: usize,
    /// Inputs are prepared ahead until so many jobs wait for a client.
    pub ready_jobs: u64,
    /// How often the L2 node is asked for its head.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,

    /// A lease ends if its client is silent for so long.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// A client loses a job that it has not proved in so long, however often it was heard.
    #[serde(with = "humantime_serde")]
    pub max_hold: Duration,
    /// How often clients are told to send a heartbeat.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// The longest time a request for work is held open.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// A job is given up when clients under so many tokens have failed on it (so many clients, where no tokens are asked for), or
    /// after four times as many failures.
    pub max_failures: u32,
    /// A job is given up after clients under one token fell silent on it four times as often. Under two tokens, twice is enough.
    pub max_lost: u32,
    /// A client is quarantined after so many rejected proofs in a row.
    pub max_rejected: u32,
    /// Clients that have never had a proof accepted hold at most so many jobs together under one token.
    pub max_newcomers: u32,

    /// Artifacts that nothing needs any more, such as rejected proofs and the inputs of proved jobs, are removed after so long.
    /// Left out: only `l2-prover gc` removes them.
    #[serde(with = "humantime_serde")]
    pub garbage_age: Option<Duration>,
    /// Batches that are final and proved are forgotten after so long, with their proofs. Left out: never.
    #[serde(with = "humantime_serde")]
    pub keep_jobs: Option<Duration>,
    /// They are not forgotten before every consumer has said that it has their proofs, and one at least has.
    pub keep_until_delivered: bool,

    /// The largest artifact, in bytes. Also bounds the memory for verifying one proof.
    pub max_artifact_bytes: u64,
    /// Proofs verified at the same time.
    pub verify_threads: usize,

    /// Accept "proofs" of the exec prover, which prove nothing.
    #[serde(alias = "danger_accept_exec_proofs")]
    pub danger_accept_exec: bool,
    /// Accept proofs mocked by a zkVM's dev mode, which prove nothing.
    #[serde(alias = "danger_accept_dev_mode_proofs")]
    pub danger_accept_dev_mode: bool,
    /// Listen without authentication on an address that other machines may reach: anyone there can read the inputs, take
    /// jobs and fill the disk. (They cannot make the server believe a false proof.)
    pub danger_listen_without_auth: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_ip: Ipv4Addr::LOCALHOST.into(),
            listen_port: 3900,
            auth: Auth::Open,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            limits: Limits::default(),
            data_dir: ".l2-prover/server".into(),
            database: None,
            artifacts: None,
            system: ProofSystem::Risc0,
            program_id: None,
            kind: ProofKind::Composite,
            split: false,
            split_segment_po2: None,
            split_least_segments: 4,
            aggregate: None,
            aggregate_after: Duration::from_secs(60 * 60),
            groth16: false,
            beneficiary: None,
            deposits_start: None,
            first_block: 1,
            batch_blocks: 1,
            max_batch_cycles: 4_000_000_000,
            max_batch_gas: None,
            max_batch_bytes: None,
            max_batch_age: None,
            max_reorg_blocks: 128,
            prepare_ahead: 2,
            ready_jobs: 8,
            poll_interval: Duration::from_millis(500),
            lease: Duration::from_secs(60),
            max_hold: Duration::from_secs(24 * 3_600),
            heartbeat: Duration::from_secs(15),
            max_wait: Duration::from_secs(30),
            max_failures: 3,
            max_lost: 5,
            max_rejected: 3,
            max_newcomers: 64,
            garbage_age: Some(Duration::from_secs(7 * 24 * 3_600)),
            keep_jobs: None,
            keep_until_delivered: false,
            max_artifact_bytes: 1 << 30,
            verify_threads: 1,
            danger_accept_exec: false,
            danger_accept_dev_mode: false,
            danger_listen_without_auth: false,
        }
    }
}

/// Whether callers need a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Not on this machine.
    Open,
    /// Always.
    Required,
}

/// A setting that cannot work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting {key} {problem}")]
pub struct InvalidConfig {
    /// The setting's name.
    pub key: &'static str,
    /// What is wrong with its value.
    pub problem: String,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first setting that cannot work.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let problem = |key, problem: &str| Err(InvalidConfig { key, problem: problem.into() });
        let zeroes = [
            ("batch_blocks", self.batch_blocks == 0),
            ("max_batch_cycles", self.max_batch_cycles == 0),
            ("ready_jobs", self.ready_jobs == 0),
            ("max_failures", self.max_failures == 0),
            ("max_lost", self.max_lost == 0),
            ("max_rejected", self.max_rejected == 0),
            ("max_newcomers", self.max_newcomers == 0),
            ("max_artifact_bytes", self.max_artifact_bytes == 0),
            ("verify_threads", self.verify_threads == 0),
            ("poll_interval", self.poll_interval.is_zero()),
            ("heartbeat", self.heartbeat.is_zero()),
        ];
        if let Some((key, _)) = zeroes.into_iter().find(|(_, zero)| *zero) {
            return problem(key, "must not be zero");
        }
        let second = Duration::from_secs(1);
        let beyond = [
            ("batch_blocks", self.batch_blocks > 1_024, "must not be more than 1024"),
            ("prepare_ahead", self.prepare_ahead > 64, "must not be more than 64"),
            ("verify_threads", self.verify_threads > 256, "must not be more than 256"),
            (
                "lease",
                self.lease < second,
                "must be at least 1s: each client sends several heartbeats in it",
            ),
            (
                "lease",
                self.lease > 24 * 3_600 * second,
                "must not be longer than 24h: a dead client keeps its job so long",
            ),
            (
                "max_hold",
                self.max_hold < self.lease,
                "must not be shorter than lease: a client would lose its job before it fell silent",
            ),
            (
                "max_wait",
                self.max_wait > 600 * second,
                "must not be longer than 10m: connections are cut after that",
            ),
            (
                "poll_interval",
                self.poll_interval > 24 * 3_600 * second,
                "must not be longer than 24h",
            ),
        ];
        if let Some((key, _, wrong)) = beyond.into_iter().find(|(_, beyond, _)| *beyond) {
            return problem(key, wrong);
        }
        let hour = 3_600 * second;
        if self.garbage_age.is_some_and(|age| age < hour) {
            return problem(
                "garbage_age",
                "must be at least 1h: clients upload proofs before they hand them in",
            );
        }
        if self.keep_jobs.is_some_and(|age| age < hour) {
            return problem("keep_jobs", "must be at least 1h: clients hand proofs in late");
        }
        if self.batch_blocks > self.max_reorg_blocks {
            return Err(InvalidConfig {
                key: "max_reorg_blocks",
                problem: format!(
                    "is {}, less than batch_blocks ({}): a reorg of one block supersedes a whole batch, which would halt the server",
                    self.max_reorg_blocks, self.batch_blocks
                ),
            });
        }
        if self.first_block == 0 {
            return problem(
                "first_block",
                "must not be zero: the genesis block has no parent and is not proven",
            );
        }
        if self.heartbeat * 2 > self.lease {
            return problem(
                "heartbeat",
                "must be at most half of lease, or one late heartbeat costs the client its job",
            );
        }
        if self.system == ProofSystem::Exec && !self.danger_accept_exec {
            return problem(
                "prover",
                "is exec, whose proofs prove nothing: set danger_accept_exec to allow them",
            );
        }
        if !matches!(self.kind, ProofKind::Composite | ProofKind::Succinct) {
            return problem(
                "kind",
                "must be composite or succinct: the server asks for others by itself (see split, aggregate and groth16)",
            );
        }
        if self.groth16 && self.kind != ProofKind::Succinct {
            return problem("groth16", "needs succinct proofs: set kind to succinct");
        }
        if let Some(most) = self.aggregate {
            if self.kind != ProofKind::Succinct {
                return problem("aggregate", "needs succinct proofs: set kind to succinct");
            }
            if !(2..=MOST_FOLDED).contains(&most) {
                return problem("aggregate", "must be from 2 to 256");
            }
            let pinned = verifier_of(self.system).map(|verifier| verifier.program_id());
            if self.program_id.is_some_and(|wanted| Some(wanted.0) != pinned) {
                return problem(
                    "aggregate",
                    "needs the program pinned in this version: leave program_id out",
                );
            }
        }
        if self.split && self.kind != ProofKind::Succinct {
            return problem("split", "needs succinct proofs: set kind to succinct");
        }
        if self.split_segment_po2.is_some_and(|po2| !SIZES.contains(&po2)) {
            return problem("split_segment_po2", "must be from 16 to 22");
        }
        if let Err(error) = verifier::check_not_revoked(&self.wanted_program_id().0) {
            return problem("program_id", &format!("cannot be used: {error}"));
        }
        if self.database.as_ref().is_some_and(|url| url.place().is_none()) {
            return problem(
                "database",
                "must be postgres://USER@HOST/DATABASE; other characters than letters and digits in a password are \
                 written as %XX",
            );
        }
        if self.artifacts.as_ref().is_some_and(|url| {
            url.scheme() != "s3" || url.host().is_none() || !url.username().is_empty()
        }) {
            return problem(
                "artifacts",
                "must be s3://BUCKET/PREFIX; keys belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            );
        }
        let open = self.auth == Auth::Open && !self.danger_listen_without_auth;
        if !self.listen_ip.is_loopback() && open {
            return Err(InvalidConfig {
                key: "listen_ip",
                problem: format!(
                    "is {}, which other machines may reach: set auth to required, use 127.0.0.1, or set \
                     danger_listen_without_auth",
                    self.listen_ip
                ),
            });
        }
        match (&self.tls_cert, &self.tls_key, &self.tls_client_ca) {
            (Some(_), None, _) => return problem("tls_key", "must be set, as tls_cert is"),
            (None, Some(_), _) => return problem("tls_cert", "must be set, as tls_key is"),
            (None, None, Some(_)) => {
                return problem("tls_cert", "must be set, as tls_client_ca is");
            }
            _ => {}
        }
        if let Some((key, what)) = self.limits.problem() {
            return problem(key, what);
        }
        Ok(())
    }

    /// Where the artifacts are.
    pub fn artifacts_place(&self) -> Place {
        match &self.artifacts {
            Some(url) => Place::S3(url.clone()),
            None => {
                let sharing = self.database.as_ref().map_or(Sharing::Alone, |_| Sharing::Shared);
                Place::Folder(self.data_dir.join("artifacts"), sharing)
            }
        }
    }

    /// The proofs that jobs ask for.
    pub fn targets(&self) -> Targets {
        let (program_id, kind) = (self.wanted_program_id(), self.kind);
        Target { system: self.system, program_id, kind }.into()
    }

    /// What is made of accepted proofs, step by step: each step takes what the one before it makes.
    pub fn folding(&self) -> Vec<Folding> {
        let system = self.system;
        let Some(verifier) = verifier_of(system) else { return Vec::new() };
        let mut steps = Vec::new();
        let mut of = Target { system, program_id: self.wanted_program_id(), kind: self.kind };
        if let Some(most) = self.aggregate {
            let program_id = B256::new(verifier.aggregate_id());
            let into = Target { system, program_id, kind: ProofKind::Aggregate };
            steps.push(Folding { of, into, most: most as usize, after: self.aggregate_after });
            of = into;
        }
        if self.groth16 {
            let into = Target { kind: ProofKind::Groth16, ..of };
            steps.push(Folding { of, into, most: 1, after: Duration::ZERO });
        }
        steps
    }

    /// The program that jobs ask for.
    pub fn wanted_program_id(&self) -> B256 {
        let pinned = verifier_of(self.system).map(|verifier| B256::new(verifier.program_id()));
        self.program_id.or(pinned).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_survive_a_round_trip() {
        let config = Config::default();
        config.check().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""lease":"1m""#), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn a_database_is_shown_without_its_password() {
        let shown = [
            ("postgres://prover:hunter2@db.example:5433/jobs", "jobs at db.example:5433"),
            ("postgresql://prover@db.example/jobs?password=hunter2", "jobs at db.example:5432"),
            (
                "postgres://prover:hunter2@db.example?host=/run/postgresql",
                "prover at /run/postgresql",
            ),
        ];
        for (url, text) in shown {
            let url = DatabaseUrl::new(url.into());
            assert_eq!(url.to_string(), text);
            let config = Config { database: Some(url), ..Config::default() };
            config.check().unwrap();
            assert!(!format!("{config:?}").contains("hunter2"));
        }
        for wrong in [
            "jobs.sqlite",
            "sqlite://jobs",
            "postgres://u:12/hunter2@db/jobs",
            "postgres://u:hunter2/@db/x",
        ] {
            let config =
                Config { database: Some(DatabaseUrl::new(wrong.into())), ..Config::default() };
            let error = config.check().unwrap_err();
            assert_eq!(error.key, "database");
            assert!(!format!("{error} {error:?} {config:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        let error =
            serde_json::from_str::<Config>(r#"{"listen_prot": 1}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `listen_prot`"), "{error}");
        let wrong = [
            (Config { listen_ip: Ipv4Addr::UNSPECIFIED.into(), ..Config::default() }, "listen_ip"),
            (Config { system: ProofSystem::Exec, ..Config::default() }, "prover"),
            (Config { heartbeat: Duration::from_secs(40), ..Config::default() }, "heartbeat"),
            (Config { batch_blocks: 0, ..Config::default() }, "batch_blocks"),
            (Config { batch_blocks: 129, ..Config::default() }, "max_reorg_blocks"),
            (Config { lease: Duration::from_millis(4), ..Config::default() }, "lease"),
            (Config { lease: Duration::from_secs(90_000), ..Config::default() }, "lease"),
            (Config { max_hold: Duration::from_secs(1), ..Config::default() }, "max_hold"),
            (Config { max_newcomers: 0, ..Config::default() }, "max_newcomers"),
            (Config { verify_threads: 1_000_000, ..Config::default() }, "verify_threads"),
            (Config { max_wait: Duration::from_secs(3_600), ..Config::default() }, "max_wait"),
            (Config { first_block: 0, ..Config::default() }, "first_block"),
            (
                Config {
                    program_id: Some(B256::new(verifier::REVOKED[0].id)),
                    ..Config::default()
                },
                "program_id",
            ),
        ];
        for (config, key) in wrong {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
