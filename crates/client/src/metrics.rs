//! What one client counts and measures, in the OpenMetrics text format that Prometheus reads.
//!
//! Each client has a registry of its own, which its provers share: several clients may run in one process.

use crate::status::{Phase, Status};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use protocol::{FailureClass, ProofSystem, Verdict};
use std::{fmt, sync::Arc, time::Duration};

/// How the text is labelled over HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a client has counted since its start. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    phase: Family<PhaseIs, Gauge>,
    proving: Histogram,
    proofs: Family<Judged, Counter>,
    failures: Family<Class, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseIs {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry in which nothing has happened yet, of a client of this proof system.
    pub fn new(system: ProofSystem) -> Self {
        let mut registry = Registry::with_prefix("prover_client");
        let (phase, failures) = (Family::<PhaseIs, Gauge>::default(), Family::default());
        let proofs = Family::<Judged, Counter>::default();
        let proving = Histogram::new(exponential_buckets(0.1, 3.0, 14));
        for verdict in ["accepted", "duplicate", "rejected"] {
            drop(proofs.get_or_create(&Judged { verdict }));
        }
        for class in FailureClass::ALL {
            let class = Class { class: class.name() };
            drop(Family::<Class, Counter>::get_or_create(&failures, &class));
        }
        registry.register("phase", "How many of the client's provers do this now", phase.clone());
        registry.register("proving_seconds", "Time to make a proof", proving.clone());
        registry.register("proofs", "Proofs that were judged, by verdict", proofs.clone());
        registry.register("failures", "Jobs given back, by class", failures.clone());
        let build = [("version", env!("CARGO_PKG_VERSION").into()), ("system", system.to_string())];
        registry.register("build", "Version and proof system of this client", Info::new(build));
        Self(Arc::new(Inner { registry, phase, proving, proofs, failures }))
    }

    /// A proof was made in `time`.
    pub(crate) fn proved(&self, time: Duration) {
        self.0.proving.observe(time.as_secs_f64());
    }

    /// A job was given back.
    pub(crate) fn failed(&self, class: FailureClass) {
        self.0.failures.get_or_create(&Class { class: class.name() }).inc();
    }

    /// A proof was judged.
    pub(crate) fn judged(&self, verdict: &Verdict) {
        let verdict = match verdict {
            Verdict::Rejected { .. } => "rejected",
            Verdict::Duplicate => "duplicate",
            _ => "accepted",
        };
        self.0.proofs.get_or_create(&Judged { verdict }).inc();
    }

    /// Everything, as text, of a client whose provers do what these say.
    pub fn text<'s>(&self, provers: impl IntoIterator<Item = &'s Status>) -> String {
        let now = |status: &Status| match status.phase {
            Phase::Idle(_) => "idle",
            Phase::Unreachable { .. } => "unreachable",
            Phase::Downloading(_) => "downloading",
            Phase::Proving(_) => "proving",
            Phase::Submitting { .. } => "submitting",
            Phase::Broken { .. } => "broken",
            Phase::Stopped => "stopped",
        };
        let now: Vec<_> = provers.into_iter().map(now).collect();
        let all =
            ["idle", "unreachable", "downloading", "proving", "submitting", "broken", "stopped"];
        for phase in all {
            let provers = now.iter().filter(|now| **now == phase).count();
            let provers = i64::try_from(provers).unwrap_or(i64::MAX);
            self.0.phase.get_or_create(&PhaseIs { phase }).set(provers);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry)
            .expect("writing to a string cannot fail");
        text
    }
}
