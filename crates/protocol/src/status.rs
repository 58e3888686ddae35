//! What an operator sees: a snapshot of the server. Times are milliseconds since the Unix epoch.

use crate::ids::Bytes32;
use crate::messages::of_known_systems;
use crate::{
    ArtifactRef, BlockRange, Capability, ClientId, JobId, LeaseId, PartOf, Progress, ProofKind,
    ProofSystem,
};
use alloy_primitives::B256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A snapshot of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The server's time.
    pub now: u64,
    /// What the intake of new blocks does.
    pub intake: IntakeStatus,
    /// The newest block of the L2 node that the server knows of.
    pub head: Option<u64>,
    /// The last block that has a job.
    pub last_enqueued: Option<u64>,
    /// Every block up to this one is proved, without a gap.
    pub proved_through: Option<u64>,
    /// The last block that has a job and that no reorg may take away, since the L2 node has called it final.
    #[serde(default)]
    pub finalized: Option<u64>,
    /// How many jobs are in each state.
    pub counts: Counts,
    /// The jobs that clients have, and the newest of the others; oldest of them first.
    pub jobs: Vec<JobSummary>,
    /// The clients that have jobs, those in quarantine, and those that were heard lately; the latest first.
    pub clients: Vec<ClientSummary>,
    /// Since when no leases are granted, because an operator said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_since: Option<u64>,
    /// Since when no new batches are taken in, because an operator said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<u64>,
    /// How batches are settled on L1, contract by contract.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settlements: Vec<SettlementStatus>,
}

/// How batches are settled in a contract on L1, as whoever sends saw it last. The data of the blocks is not published there (validium).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettlementStatus {
    /// L1's chain id.
    pub l1_chain_id: u64,
    /// The contract's address.
    pub rollup: String,
    /// The last block that is settled, in L1's newest block.
    pub settled: Option<u64>,
    /// And in its newest finalized one.
    pub finalized: Option<u64>,
    /// What the wallet that sends has, in gwei.
    pub balance_gwei: Option<u64>,
    /// Since when a signed transaction waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<u64>,
    /// The log code of what keeps the next batch from being settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// When L1 said so.
    pub seen_at: Option<u64>,
}

/// What the intake of new blocks does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum IntakeStatus {
    /// There is no L2 node: no new jobs.
    Off,
    /// Another server on the same database follows the node; this one takes over when that one stops.
    Standby,
    /// It follows the node's head.
    Following,
    /// Enough jobs are ready; it continues when clients take some.
    Full,
    /// The node could not be asked, or its answer cannot be proven. The server asks again; no block is
    /// skipped.
    Retrying {
        /// What went wrong.
        error: String,
    },
    /// The node's blocks do not continue those already enqueued, or the next one exceeds what the program
    /// accepts. Nothing more is enqueued while this lasts.
    Halted {
        /// What does not fit.
        error: String,
    },
}

/// How many jobs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Waiting for a client.
    pub ready: u64,
    /// Being proved.
    pub leased: u64,
    /// A proof is being verified.
    pub verifying: u64,
    /// Done.
    pub proved: u64,
    /// Given up, until an operator requeues them.
    pub dead: u64,
    /// Of blocks that a reorg removed from the chain.
    #[serde(default)]
    pub superseded: u64,
    /// Of those ready, leased or verifying: jobs whose proof the server no longer wants, since it now asks for another
    /// program, proof system or kind. A client that names their program still gets them.
    #[serde(default)]
    pub set_aside: u64,
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a client.
    Ready,
    /// Being proved.
    Leased,
    /// A proof is being verified.
    Verifying,
    /// Done.
    Proved,
    /// Given up, for a [`DeadCause`].
    Dead,
    /// A reorg removed its blocks from the chain. It continues where it was if they come back.
    Superseded,
}

impl JobState {
    /// The name used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Verifying => "verifying",
            Self::Proved => "proved",
            Self::Dead => "dead",
            Self::Superseded => "superseded",
        }
    }
}

/// Why a job was given up. An operator can still requeue it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadCause {
    /// It failed too often.
    Budget,
    /// Two clients fell silent on it: it may have killed them.
    Quarantined,
    /// An operator cancelled it.
    Cancelled,
    /// A cause this version does not know.
    #[serde(other)]
    Other,
}

impl DeadCause {
    /// The name used in messages and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Quarantined => "quarantined",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    /// The job.
    pub job: JobId,
    /// Its blocks.
    pub block_numbers: BlockRange,
    /// Where it is in its life.
    pub state: JobState,
    /// Why it was given up, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<DeadCause>,
    /// Served before others if it is above zero, after them if it is below.
    #[serde(default)]
    pub priority: i32,
    /// The proof system asked for.
    pub system: ProofSystem,
    /// The program asked for.
    #[schemars(with = "Bytes32")]
    pub program_id: B256,
    /// The kind of proof asked for.
    pub kind: ProofKind,
    /// If it asks for a part of another job's proof: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartOf>,
    /// Gas used by its blocks.
    pub gas_used: u64,
    /// Transactions in its blocks.
    pub transactions: u64,
    /// The program's input.
    pub prover_inputs: ArtifactRef,
    /// Who proves it, or proved it.
    pub client: Option<ClientId>,
    /// How far that client is.
    pub progress: Option<Progress>,
    /// When it was enqueued.
    pub created_at: u64,
    /// When the current lease was granted, or the last one.
    pub leased_at: Option<u64>,
    /// When it was proved or given up.
    pub finished_at: Option<u64>,
    /// Failures reported by clients.
    pub failures: u32,
    /// Clients that fell silent.
    pub lost: u32,
    /// The accepted proof.
    pub proof: Option<ArtifactRef>,
    /// Its latest error.
    pub last_error: Option<String>,
}

impl JobSummary {
    /// Whether it asks for the proof of a batch, and not for a part of one or for one that is made of accepted ones.
    pub fn is_of_batch(&self) -> bool {
        self.part.is_none() && self.made().is_none()
    }

    /// What it makes of accepted proofs, if that is what it asks for.
    pub fn made(&self) -> Option<ProofKind> {
        Some(self.kind).filter(|kind| kind.is_made_of_proofs())
    }
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientSummary {
    /// The client.
    pub client: ClientId,
    /// What it calls itself. Anybody may call itself anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was last heard from.
    pub last_seen: u64,
    /// How many of its proofs were accepted.
    pub proved: u64,
    /// How many of its proofs were rejected.
    pub rejected: u64,
    /// How often it failed, or its proof was rejected, since its last proof was accepted.
    #[serde(default)]
    pub failed: u32,
    /// It was not heard for two minutes.
    #[serde(default)]
    pub silent: bool,
    /// It gets no job before this time, because it failed recently.
    pub rests_until: Option<u64>,
    /// It gets no job until an operator releases it: its proofs were rejected, or an operator said so.
    #[serde(default)]
    pub quarantined: bool,
    /// It finishes what it has and gets no other job until an operator releases it.
    #[serde(default)]
    pub draining: bool,
    /// What it can prove, and on what, as it says itself. Empty if it did not say.
    #[serde(default, deserialize_with = "of_known_systems", skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// How many cycles it proves in a second, as its latest accepted proofs show: from lease to proof, with those of a whole batch
    /// estimated. Left out before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycles_per_second: Option<u64>,
}

/// Whether a server can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether it passed every check.
    pub ready: bool,
    /// Each check and its result.
    pub checks: Vec<Check>,
}

/// A check of a server's readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Who uses the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// What it may do: `operator` or `viewer`. On a server that needs no token everybody is an operator.
    pub role: String,
    /// The token's name, if one was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The second half of the session: whoever has signed in sends it in the header `x-csrf-token` with every request, beside the cookie.
    /// It is told once, in answer to the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// When the session ends, in milliseconds since the Unix epoch, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// The body of a request to change a job's priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Priority {
    /// From -100 to 100; each step makes the job ten minutes older or younger than it is.
    pub priority: i32,
}

/// Everything that happened to a job, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobHistory {
    /// Its leases.
    pub leases: Vec<LeaseSummary>,
    /// The proofs that were submitted for it.
    pub proofs: Vec<SubmittedProof>,
    /// The jobs that ask for parts of its proof, in the order in which they were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<JobSummary>,
}

/// A lease, live or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseSummary {
    /// The lease.
    pub lease: LeaseId,
    /// Who had it.
    pub client: ClientId,
    /// When it was granted.
    pub granted_at: u64,
    /// When it ended.
    pub ended_at: Option<u64>,
    /// How it ended, in a word.
    pub outcome: Option<String>,
}

/// A proof that was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedProof {
    /// The proof.
    pub proof: ArtifactRef,
    /// Who submitted it.
    pub client: ClientId,
    /// The proof system it claims to be of.
    pub system: ProofSystem,
    /// The program it claims to be of.
    #[schemars(with = "Bytes32")]
    pub program_id: B256,
    /// The kind it claims to be of.
    pub kind: ProofKind,
    /// When it arrived.
    pub received_at: u64,
    /// What became of it, in a word; nothing while it is being verified.
    pub verdict: Option<String>,
    /// Why it was rejected.
    pub reason: Option<String>,
}

/// The body of a request to remove artifacts that are no longer needed. Unlike elsewhere, an unknown field is an error: a misspelt
/// `dry_run` would be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectGarbage {
    /// Only artifacts stored longer ago than this, in milliseconds.
    pub older_than_ms: u64,
    /// Count them and remove none.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which artifacts were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Garbage {
    /// They were only counted.
    pub dry_run: bool,
    /// Artifacts removed.
    pub removed: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Artifacts that are needed, or too young.
    pub kept: u64,
}

/// The body of a request to requeue or to cancel many jobs. Unlike elsewhere, an unknown field is an error: a misspelt limit would be
/// none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeJobs {
    /// What is done with them.
    pub deed: JobsDeed,
    /// Jobs in this state. Only dead ones can be requeued.
    pub state: JobState,
    /// Of the dead ones, those that were given up for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<DeadCause>,
    /// Those with a block from this one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Those with a block up to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Those that this client has or had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// Those whose proofs the server no longer wants.
    #[serde(default)]
    pub set_aside: bool,
    /// Where to go on: what [`ChangedJobs::next`] said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Count them and change none.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is done with many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobsDeed {
    /// Dead ones get fresh budgets.
    Requeue,
    /// They are given up.
    Cancel,
}

/// What became of many jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedJobs {
    /// Jobs that were meant.
    pub matched: u64,
    /// Jobs that were changed. The others have changed by themselves meanwhile.
    pub changed: u64,
    /// There may be more: ask again, from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Something that an operator decided, or that a server removed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number: the later, the greater.
    pub id: u64,
    /// When.
    pub at: u64,
    /// Whose token: its id and name. Or that no token was needed, or that it was the server.
    pub actor: String,
    /// What was done.
    pub deed: String,
    /// What it was done to.
    pub subject: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A batch on the chain, and its proofs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProvedBatch {
    /// Its blocks.
    pub block_numbers: BlockRange,
    /// Whether the node has called it final: no reorg takes it away.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Its proofs, one of each job.
    pub proofs: Vec<JobProof>,
}

/// A proof that was accepted for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobProof {
    /// The job.
    pub job: JobId,
    /// The proof system.
    pub system: ProofSystem,
    /// The program.
    #[schemars(with = "Bytes32")]
    pub program_id: B256,
    /// The kind of proof.
    pub kind: ProofKind,
    /// The proof.
    pub proof: ArtifactRef,
}

/// The body of a consumer's message that it has the proofs of all blocks up to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivered {
    /// The last of these blocks.
    pub through: u64,
}
