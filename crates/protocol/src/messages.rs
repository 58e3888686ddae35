//! The messages. Each is one JSON object whose `type` names it.

use crate::ids::Bytes32;
use crate::{ArtifactRef, BlockRange, ClientId, InstanceId, JobId, LeaseId, Part};
use alloy_primitives::B256;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::{fmt, str::FromStr};

/// Every message between a Prover Client and the Prover Server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum ProofData {
    /// Client: is there work for me?
    Request(Request),
    /// Server: here is a job and your lease on it.
    Response(Response),
    /// Server: there is none now.
    NoWork(NoWork),
    /// Client: this is my proof.
    Submit(Submit),
    /// Server: what became of the proof.
    SubmitAck(SubmitAck),
    /// Client: I am still working on it.
    Heartbeat(Heartbeat),
    /// Server: continue, or stop.
    HeartbeatAck(HeartbeatAck),
    /// Client: I could not do it.
    Fail(Fail),
    /// Server: received.
    FailAck(FailAck),
}

/// Asks for a job. A client that asks again while it holds a lease gets the same lease, so a client that lost the
/// answer just asks twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Who asks.
    pub client: ClientId,
    /// What the client can prove. A capability of a proof system that the server does not know is left out, so that a client
    /// of a later version is served by an earlier server.
    #[serde(deserialize_with = "of_known_systems")]
    pub capabilities: Vec<Capability>,
    /// How long the server may hold the request open until there is work, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// The process that asks. Clients older than this field leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The process behind a client's id: for people, and to notice when two processes use copies of one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The process.
    pub instance: InstanceId,
    /// What its operator calls it, at most 64 characters.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
}

/// Reads the capabilities of proof systems that this version knows.
pub(crate) fn of_known_systems<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Capability>, D::Error> {
    let all = Vec::<serde_json::Value>::deserialize(deserializer)?;
    let known = |capability: &serde_json::Value| {
        let system = capability.get("system").and_then(serde_json::Value::as_str);
        system.is_none_or(|system| system.parse::<ProofSystem>().is_ok())
    };
    let known = all.into_iter().filter(known);
    known.map(|one| Capability::deserialize(one).map_err(serde::de::Error::custom)).collect()
}

/// One program that a client can prove with one proof system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capability {
    /// The proof system.
    pub system: ProofSystem,
    /// The program's id in that proof system (RISC Zero: the image id).
    #[schemars(with = "Bytes32")]
    pub program_id: B256,
    /// The proofs are mocked (a zkVM's dev mode). The server checks every proof anyway; this saves the work.
    #[serde(default)]
    pub mocked: bool,
    /// The kinds of proofs that it makes. Clients older than this field leave it out: they make composite and succinct ones. Kinds
    /// that this version does not know are left out while it is read.
    #[serde(
        default = "kinds_before_parts",
        deserialize_with = "of_known_kinds",
        skip_serializing_if = "are_kinds_before_parts"
    )]
    pub kinds: Vec<ProofKind>,
    /// The largest segments that it can prove, as a power of two of cycles. Left out by provers without segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_po2: Option<u32>,
    /// What proves, for people: `risc0 3.1.0-rc.1 cpu`, `bonsai`, `exec`. The server keeps 64 characters. Clients older than this
    /// field and the next two leave them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The memory that the prover may use, in bytes: its machine's, or less in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The GPUs that the prover may use. The server keeps the first 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// What its driver calls it. The server keeps 64 characters.
    pub name: String,
    /// Its memory, in bytes.
    pub memory_bytes: u64,
}

/// The longest text of a client about itself that is kept, in characters: its name, that of a GPU, and what proves.
pub const MOST_CHARACTERS: usize = 64;

/// So many GPUs of a client are kept.
pub const MOST_GPUS: usize = 16;

impl Capability {
    /// One that makes composite and succinct proofs.
    pub fn new(system: ProofSystem, program_id: B256, mocked: bool) -> Self {
        Self {
            system,
            program_id,
            mocked,
            kinds: kinds_before_parts(),
            segment_po2: None,
            engine: None,
            memory_bytes: None,
            gpus: Vec::new(),
        }
    }

    /// As much of it as is kept, whatever a client says: texts and lists are cut, and control characters are left out.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.engine = self.engine.map(|engine| bounded(&engine));
        self.gpus.truncate(MOST_GPUS);
        for gpu in &mut self.gpus {
            gpu.name = bounded(&gpu.name);
        }
        self
    }

    /// Whether it makes proofs of this kind.
    pub fn makes(&self, kind: ProofKind) -> bool {
        self.kinds.contains(&kind)
    }
}

/// As much of a client's text about itself as is kept: the first 64 characters, without those that [disturb](disturbs) others. Nothing,
/// if none of them can be seen.
pub fn bounded(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !disturbs(*c)).take(MOST_CHARACTERS).collect();
    // A pattern of Braille without a dot is no white space, and is as empty.
    let unseen = kept.chars().all(|c| c.is_whitespace() || c == '\u{2800}');
    if unseen { String::new() } else { kept }
}

/// An error text without what [disturbs] others; its lines and tabs stay.
pub fn readable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !disturbs(*c)).collect()
}

/// Whether a character disturbs what is shown beside it, or makes two texts look alike that are not: a control or format character, one
/// that ends a line or turns the direction of writing, or one that is not seen at all (Unicode's `Default_Ignorable_Code_Point`).
pub fn disturbs(c: char) -> bool {
    let format = matches!(c,
        '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}'
        | '\u{110cd}' | '\u{13430}'..='\u{1343f}');
    let unseen = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || format || unseen
}

/// What a client makes that does not say.
fn kinds_before_parts() -> Vec<ProofKind> {
    vec![ProofKind::Composite, ProofKind::Succinct]
}

fn are_kinds_before_parts(kinds: &[ProofKind]) -> bool {
    kinds == kinds_before_parts()
}

/// Reads the kinds that this version knows.
fn of_known_kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ProofKind>, D::Error> {
    let mut known = Vec::new();
    for kind in Vec::<String>::deserialize(deserializer)? {
        if let Ok(kind) = kind.parse()
            && !known.contains(&kind)
        {
            known.push(kind);
        }
    }
    Ok(known)
}

/// A job and a lease on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// The job.
    pub job: JobId,
    /// The lease: name it in every heartbeat.
    pub lease: LeaseId,
    /// The lease ends if no heartbeat arrives for this many milliseconds.
    pub ttl_ms: u64,
    /// Send a heartbeat at this interval, in milliseconds.
    pub heartbeat_ms: u64,
    /// The blocks to prove.
    pub block_numbers: BlockRange,
    /// The proof system asked for.
    pub system: ProofSystem,
    /// The program asked for.
    #[schemars(with = "Bytes32")]
    pub program_id: B256,
    /// The kind of proof asked for.
    pub kind: ProofKind,
    /// The program's input, to be fetched as an artifact.
    pub prover_inputs: ArtifactRef,
    /// The server does not accept a larger proof, in bytes. Servers older than this field leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_proof_bytes: Option<u64>,
    /// The job's trace, as in the header `traceparent` of the W3C Trace Context. Left out if tracing is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What to do, if the kind is [`ProofKind::Part`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// There is no job for this client now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoWork {
    /// Why.
    pub reason: NoWorkReason,
    /// Ask again after this many milliseconds.
    pub retry_after_ms: u64,
}

/// Why a client gets no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoWorkReason {
    /// All jobs are proven or being proven.
    NothingReady,
    /// Jobs are waiting, but for another proof system or program than the client has.
    NotCapable,
    /// The client's proofs are mocked, or of a system that proves nothing, and this server refuses those.
    MockedProofsRefused,
    /// The client has a program that is revoked: the client is older than the server, and has to be upgraded.
    ProgramRevoked,
    /// The client failed recently and has to wait.
    Resting,
    /// The server is about to stop, or an operator drains the server or this client.
    Draining,
    /// The client is in quarantine until an operator releases it.
    Quarantined,
    /// Another process uses the same client id: probably a copy of this client's folder. This process has to stop.
    AnotherInstance,
    /// A reason this version does not know.
    #[serde(other)]
    Other,
}

/// Hands in a proof whose bytes have been uploaded as an artifact.
///
/// The job is named by the path. A valid proof needs no lease: a late one is still verified and used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submit {
    /// Who proved.
    pub client: ClientId,
    /// The lease under which the client proved, live or not.
    pub lease: LeaseId,
    /// The proof system used.
    pub system: ProofSystem,
    /// The program proven.
    #[schemars(with = "Bytes32")]
    pub program_id: B256,
    /// The kind of the proof.
    pub kind: ProofKind,
    /// The proof.
    pub proof: ArtifactRef,
}

/// What became of a proof. Sent only when the proof is durable on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmitAck {
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The server's verdict on a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Verified: the job is proved. The client may delete the proof.
    Accepted,
    /// The job was already proved by another proof. The client may delete the proof.
    Duplicate,
    /// The proof is rejected for good.
    Rejected {
        /// Why, for people.
        reason: String,
    },
    /// A reorg removed the job's blocks from the chain. The proof is valid and kept in case they come back; the client
    /// may delete its copy.
    Superseded,
    /// Still being verified: submit the same again later. The client keeps the proof.
    Pending {
        /// Ask again after this many milliseconds.
        retry_after_ms: u64,
    },
}

/// Keeps a lease alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// Who proves.
    pub client: ClientId,
    /// The lease to keep.
    pub lease: LeaseId,
    /// How far the client is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The process that proves. Clients older than this field leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
}

/// So many cycles of RISC Zero cost as much to prove as one keccak permutation in the circuit of its own: docs/benchmarks.md says
/// how that was measured. With them, cycles and permutations add up to *proving cycles*.
pub const PERMUTATION_CYCLES: u64 = 680;

/// How far a prover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "phase", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Progress {
    /// The program has been executed; proving begins.
    Executed {
        /// Segments to prove.
        segments: u64,
        /// Cycles of the program itself.
        user_cycles: u64,
        /// All cycles, paging and padding included.
        total_cycles: u64,
        /// Steps that follow the segments: lifts, joins, proofs of batches of keccak permutations. Left out by provers that do not know
        /// it, and by versions before this field.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        later_steps: Option<u64>,
    },
    /// Segments are being proven.
    Segment {
        /// Segments proven.
        done: u64,
        /// Segments to prove.
        total: u64,
    },
    /// Proofs of segments are being joined into one.
    Joining {
        /// Joins done.
        done: u64,
        /// Joins to do.
        total: u64,
    },
    /// The proof is being made smaller.
    Compressing,
    /// A phase this version does not know.
    #[serde(other)]
    Other,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed { segments, .. } => write!(f, "executed, {segments} segments to prove"),
            Self::Segment { done, total } => write!(f, "segment {done}/{total}"),
            Self::Joining { done, total } => write!(f, "joining {done}/{total}"),
            Self::Compressing => f.write_str("compressing"),
            Self::Other => f.write_str("working"),
        }
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatAck {
    /// What the client should do.
    pub advice: Advice,
}

/// What a client should do with the job it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Continue: the lease is renewed.
    Continue,
    /// Stop: the proof is no longer needed.
    Cancel,
    /// Finish this job, then ask for no other.
    Drain,
    /// The lease is no longer yours. Stop; a finished proof is still accepted.
    Lost,
}

/// Gives a lease back without a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fail {
    /// Who failed.
    pub client: ClientId,
    /// The lease given back.
    pub lease: LeaseId,
    /// What kind of failure.
    pub class: FailureClass,
    /// What happened, for people. The server keeps about the first 2,000 bytes.
    pub message: String,
}

/// The answer to [`Fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailAck {}

/// Kinds of failures. They decide who is to blame and whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureClass {
    /// The program refused its input.
    GuestPanic,
    /// The program ran longer than this client allows.
    CycleLimit,
    /// The server did not have the input.
    InputMissing,
    /// The input's bytes are not those the server named.
    InputCorrupt,
    /// The client does not have the program.
    UnsupportedProgram,
    /// Memory ran out.
    OutOfMemory,
    /// The prover cannot work now (no device, busy, not set up).
    BackendUnavailable,
    /// The prover tried and failed.
    BackendFailed,
    /// It took too long.
    Timeout,
    /// The proof is finished, but has more bytes than the server takes.
    ProofTooLarge,
    /// The client was told to stop. Nobody is to blame.
    Cancelled,
    /// The client itself is broken: its disk, for example. Also every class this version does not know.
    #[serde(other)]
    ClientInternal,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::GuestPanic,
        Self::CycleLimit,
        Self::InputMissing,
        Self::InputCorrupt,
        Self::UnsupportedProgram,
        Self::OutOfMemory,
        Self::BackendUnavailable,
        Self::BackendFailed,
        Self::Timeout,
        Self::ProofTooLarge,
        Self::Cancelled,
        Self::ClientInternal,
    ];

    /// Whether another attempt, here or elsewhere, may succeed.
    pub const fn retryable(self) -> bool {
        !matches!(self, Self::GuestPanic | Self::UnsupportedProgram)
    }

    /// The name used in messages, logs and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GuestPanic => "guest_panic",
            Self::CycleLimit => "cycle_limit",
            Self::InputMissing => "input_missing",
            Self::InputCorrupt => "input_corrupt",
            Self::UnsupportedProgram => "unsupported_program",
            Self::OutOfMemory => "out_of_memory",
            Self::BackendUnavailable => "backend_unavailable",
            Self::BackendFailed => "backend_failed",
            Self::Timeout => "timeout",
            Self::ProofTooLarge => "proof_too_large",
            Self::Cancelled => "cancelled",
            Self::ClientInternal => "client_internal",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not among those allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be one of {allowed}, not {text:?}")]
pub struct UnknownName {
    what: &'static str,
    allowed: &'static str,
    text: String,
}

/// What makes and checks the proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProofSystem {
    /// The program is run natively and its statement is taken as the proof. It proves nothing.
    Exec,
    /// RISC Zero.
    Risc0,
}

impl fmt::Display for ProofSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exec => "exec",
            Self::Risc0 => "risc0",
        })
    }
}

impl FromStr for ProofSystem {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "exec" => Ok(Self::Exec),
            "risc0" => Ok(Self::Risc0),
            _ => Err(UnknownName {
                what: "a proof system",
                allowed: "exec, risc0",
                text: text.into(),
            }),
        }
    }
}

/// How far a proof is compressed. Later kinds are better: smaller, and cheaper to verify.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// A part of a proof that several clients make together: see [`Part`]. By itself it proves nothing about a batch.
    Part,
    /// One proof for each segment: grows with the work proven.
    Composite,
    /// One proof of constant size.
    Succinct,
    /// One proof of constant size that stands for the proofs of consecutive batches. It is of a program of its own, which verifies
    /// theirs, and its input is a bundle of them.
    Aggregate,
    /// One proof of 256 bytes, which contracts verify: made of a succinct one, folded or not, whose program it is of. Its input is a
    /// bundle with that proof alone.
    Groth16,
}

impl ProofKind {
    /// Whether such a proof is made of accepted proofs, rather than of blocks.
    pub const fn is_made_of_proofs(self) -> bool {
        matches!(self, Self::Aggregate | Self::Groth16)
    }
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "part",
            Self::Composite => "composite",
            Self::Succinct => "succinct",
            Self::Aggregate => "aggregate",
            Self::Groth16 => "groth16",
        })
    }
}

impl FromStr for ProofKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "part" => Ok(Self::Part),
            "composite" => Ok(Self::Composite),
            "succinct" => Ok(Self::Succinct),
            "aggregate" => Ok(Self::Aggregate),
            "groth16" => Ok(Self::Groth16),
            _ => Err(UnknownName {
                what: "a proof kind",
                allowed: "part, composite, succinct, aggregate, groth16",
                text: text.into(),
            }),
        }
    }
}
