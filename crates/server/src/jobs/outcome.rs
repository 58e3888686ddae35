//! How a lease ended, and what was found of a proof: the words that the database, the histories and the metrics share.

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// Its client's proof was accepted.
    Proved,
    /// Another client's proof was accepted.
    ProvedByOther,
    /// Its client's proof was rejected.
    Rejected,
    /// Its client gave the job back.
    Failed,
    /// Its client fell silent.
    Expired,
    /// Its client asked for work again without it.
    Abandoned,
    /// Nobody is to blame: an operator gave the job up, its input is lost, or its client was told to stop.
    Cancelled,
    /// A reorg took the job's blocks off the chain.
    Superseded,
}

impl LeaseOutcome {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Proved,
        Self::ProvedByOther,
        Self::Rejected,
        Self::Failed,
        Self::Expired,
        Self::Abandoned,
        Self::Cancelled,
        Self::Superseded,
    ];

    /// As it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::ProvedByOther => "proved_by_other",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }
}

/// What is recorded of a proof that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedVerdict {
    /// It proves its job.
    Accepted,
    /// The job was proved already.
    Duplicate,
    /// It is not valid.
    Rejected,
}

impl RecordedVerdict {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Duplicate, Self::Rejected];

    /// As it is stored, shown and counted.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
        }
    }
}
