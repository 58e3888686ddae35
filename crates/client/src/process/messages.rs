//! The prover protocol, version 1: what goes through the pipes between `l2-prover` and a prover executable.
//! `docs/prover-protocol.md` describes it; the files in `tests/golden/prover-v1` hold every message as it is written.
//!
//! * Each message is one line of JSON. Receivers ignore fields they do not know, and lines that are no message.
//! * Inputs, proofs and public values are files, named by path.

use crate::prover::{
    Cycles, FailureClass, Measurement, PartFiles, Progress, ProofKind, ProofSystem,
};
use alloy_primitives::B256;
use protocol::ArtifactRef;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The version of the prover protocol that this build speaks.
pub const PROTOCOL: u32 = 1;

/// The version of this build. Both ends of the pipes must have the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the executable says first of all. These three fields stay in every version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the prover protocol that it speaks.
    pub protocol: u32,
    /// Its name, for example `l2-prover-risc0`.
    pub name: String,
    /// Its version, which must be that of the program that started it.
    pub version: String,
}

/// What the executable shall do. It gets one assignment, on its stdin, once it has said [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The version of the prover protocol that the parent speaks.
    pub protocol: u32,
    /// The parent's process id: if the parent is another process by now, it died before the executable could ask to die with it.
    pub parent: u32,
    /// What to do.
    pub work: Work,
}

/// The kinds of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Say what you are: [`Outcome::Identity`].
    Identify,
    /// Prove that the program accepts an input: [`Outcome::Proof`].
    Prove {
        /// The program's input.
        input: PathBuf,
        /// The kind of proof.
        kind: ProofKind,
        /// Where the proof shall be written, durably.
        proof: PathBuf,
    },
    /// Run the program without proving: [`Outcome::Executed`].
    Execute {
        /// The program's input.
        input: PathBuf,
        /// Where the public values shall be written.
        public_values: PathBuf,
    },
    /// Run the program and count where its cycles go: [`Outcome::Measured`].
    Measure {
        /// The program's input.
        input: PathBuf,
        /// Where the public values shall be written.
        public_values: PathBuf,
        /// Another program binary than the pinned one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<PathBuf>,
        /// Where a profile in pprof's format shall be written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<PathBuf>,
    },
    /// Run the program and say what the run consists of: [`Outcome::Planned`].
    Plan {
        /// The program's input.
        input: PathBuf,
        /// A segment has at most 2 to this power cycles.
        segment_po2: u32,
        /// Where the plan shall be written.
        plan: PathBuf,
    },
    /// Prove a part of a run: [`Outcome::Proof`].
    ProvePart {
        /// The program's input.
        input: PathBuf,
        /// What to prove, and the files that it is made of.
        part: PartFiles,
        /// Where the part's proof shall be written, durably.
        proof: PathBuf,
    },
    /// Try whether this machine can still run the program: [`Outcome::Healthy`].
    SelfTest,
}

/// What the executable says, on its stdout: [`Hello`](Self::Hello), progress while it works, and in the end what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// It has started and waits for its assignment.
    Hello(Hello),
    /// How far it is.
    Progress(Progress),
    /// The work is done, and the files asked for are written.
    Done {
        /// What came of it.
        result: Outcome,
        /// The largest resident set of the process, in bytes, if the system tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_memory_bytes: Option<u64>,
    },
    /// The work failed.
    Failed {
        /// Who or what is the cause.
        class: FailureClass,
        /// What happened.
        detail: String,
    },
}

/// What came of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Of [`Work::Identify`].
    Identity(Identity),
    /// Of [`Work::Prove`] and [`Work::ProvePart`]: the file has these bytes.
    Proof(ArtifactRef),
    /// Of [`Work::Plan`]: the file has these bytes.
    Planned(ArtifactRef),
    /// Of [`Work::Execute`].
    Executed {
        /// The bytes of the public values' file.
        public_values: ArtifactRef,
        /// What the run cost, if the proof system counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cycles: Option<Cycles>,
    },
    /// Of [`Work::Measure`].
    Measured {
        /// The bytes of the public values' file.
        public_values: ArtifactRef,
        /// What the run cost, and where.
        measurement: Measurement,
    },
    /// Of [`Work::SelfTest`].
    Healthy,
}

/// What a prover executable offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The proof system.
    pub system: ProofSystem,
    /// The id of the program it proves.
    pub program_id: B256,
    /// The kinds of proofs it makes.
    pub kinds: Vec<ProofKind>,
    /// The id of the program with which it folds proofs, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate_id: Option<B256>,
    /// The kinds of proofs that it could make but for what is missing on this machine, with what that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<(ProofKind, String)>,
    /// Why its proofs prove nothing ("dev mode"), if they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub danger: Option<String>,
    /// The largest segments that it can prove, as a power of two of cycles. Left out by provers without segments, and by versions
    /// before this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_po2: Option<u32>,
    /// What proves, for people: name, version, device. Versions before this field leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}
