//! What goes over the wire between the Prover Server and its clients: plain data, no I/O.
//!
//! * The four [`ProofData`] messages `Request`, `Response`, `Submit` and `SubmitAck` are the core and are never renamed.
//! * Everything here is version 1, served below [`paths::V1`]. Fields are added, never changed; a reader ignores fields that
//!   it does not know.
//! * An id or a range that has been read is valid: an invalid one is refused while it is parsed.
//!
//! # Example
//!
//! A client asks for work. The message is JSON, with its name in the field `type`:
//!
//! ```
//! use protocol::{BlockRange, ClientId, ProofData};
//!
//! let message = r#"{
//!     "type": "Request",
//!     "client": "000102030405060708090a0b0c0d0e0f",
//!     "capabilities": [{
//!         "system": "risc0",
//!         "program_id": "0xabababababababababababababababababababababababababababababababab",
//!         "mocked": false
//!     }],
//!     "wait_ms": 30000
//! }"#;
//! let ProofData::Request(request) = serde_json::from_str(message)? else { panic!("another message") };
//! assert_eq!(request.client, "000102030405060708090a0b0c0d0e0f".parse::<ClientId>()?);
//!
//! // What cannot be is refused while it is read.
//! assert!("0001".parse::<ClientId>().is_err());
//! assert!(BlockRange::new(9, 7).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod error;
pub mod ids;
pub mod messages;
pub mod part;
pub mod paths;
pub mod status;

pub use error::{ApiError, ErrorCode};
pub use ids::{
    ArtifactId, ArtifactRef, BlockRange, ClientId, InstanceId, InvalidId, InvalidRange, JobId,
    LeaseId,
};
pub use messages::{
    Advice, Capability, Fail, FailAck, FailureClass, Gpu, Heartbeat, HeartbeatAck, NoWork,
    NoWorkReason, Origin, PERMUTATION_CYCLES, Progress, ProofData, ProofKind, ProofSystem, Request,
    Response, Submit, SubmitAck, UnknownName, Verdict,
};
pub use part::{Part, PartOf, PartWork};
pub use status::{
    AuditEntry, ChangeJobs, ChangedJobs, Check, ClientSummary, CollectGarbage, Counts, DeadCause,
    Delivered, Garbage, IntakeStatus, JobHistory, JobProof, JobState, JobSummary, JobsDeed,
    LeaseSummary, Priority, ProvedBatch, Readiness, Session, SettlementStatus, Status,
    SubmittedProof,
};
