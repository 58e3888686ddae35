//! What one server counts and measures, in the OpenMetrics text format that Prometheus reads.
//!
//! * Each server has a registry of its own: several may run in one process.
//! * Gauges of jobs, clients and blocks are read from the database when somebody asks: they survive a restart, and all
//!   servers on one database show the same. What happens is counted by the server where it happens, since its start.
//! * What is counted stands in groups, each with its families, their help texts and the series that are there from the start.
//! * A label's value is `&'static str` or a number of ours: nothing that a client sends can become one.

mod groups;

pub use groups::Here;

use crate::{
    jobs::{cost::ProvingCost, outcome::RecordedVerdict},
    store::{clients::SILENT, figures::Figures},
};
use groups::{
    Class, Clients, Direction, Endpoint, Jobs, Leases, Progress, Proofs, Route, Settlement, System,
    Traffic, Verdict, Watched, system_name,
};
use prometheus_client::{metrics::info::Info, registry::Registry};
use protocol::{FailureClass, IntakeStatus, ProofSystem};
use std::{fmt, sync::Arc, time::Duration};

/// How the text is labelled over HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A client that was heard within this time is alive.
pub const ALIVE: Duration = SILENT;

/// What a server has counted since its start. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    jobs: Jobs,
    progress: Progress,
    settlement: Settlement,
    leases: Leases,
    proofs: Proofs,
    clients: Clients,
    traffic: Traffic,
    watched: Watched,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry in which nothing has happened yet. Series whose labels are known are there from the start, so that a
    /// rate over the first event is not lost.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("prover_server");
        let jobs = Jobs::register(&mut registry);
        let progress = Progress::register(&mut registry);
        let settlement = Settlement::register(&mut registry);
        let leases = Leases::register(&mut registry);
        let proofs = Proofs::register(&mut registry);
        let clients = Clients::register(&mut registry);
        let traffic = Traffic::register(&mut registry);
        let watched = Watched::register(&mut registry);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of this server", Info::new(version));
        Self(Arc::new(Inner {
            registry,
            jobs,
            progress,
            settlement,
            leases,
            proofs,
            clients,
            traffic,
            watched,
        }))
    }

    /// A lease was granted on a request that came `waited` ago.
    pub fn leased(&self, system: ProofSystem, waited: Duration) {
        self.0.leases.granted.get_or_create(&System { system: system_name(system) }).inc();
        self.0.leases.latency.observe(waited.as_secs_f64());
    }

    /// A lease was taken back from a client that fell silent.
    pub fn lease_expired(&self) {
        self.0.leases.expired.inc();
    }

    /// A client reported a failure.
    pub fn failed(&self, class: FailureClass) {
        self.0.leases.failures.get_or_create(&Class { class: class.name() }).inc();
    }

    /// A proof was judged.
    pub fn judged(&self, verdict: RecordedVerdict) {
        self.0.proofs.submissions.get_or_create(&Verdict { verdict: verdict.name() }).inc();
    }

    /// A proof that took `effort` was accepted.
    pub fn proved(&self, system: ProofSystem, effort: &ProvingCost) {
        let Some(time) = effort.time else { return };
        let (label, seconds) = (System { system: system_name(system) }, time.as_secs_f64());
        self.0.proofs.proving.get_or_create(&label).observe(seconds);
        for (family, units) in [
            (&self.0.proofs.proving_mgas, effort.gas),
            (&self.0.proofs.proving_mcycle, effort.cycles),
        ] {
            if units > 0 {
                family.get_or_create(&label).observe(seconds * 1e6 / units as f64);
            }
        }
    }

    /// Verifying a proof took `time`.
    pub fn verified(&self, system: ProofSystem, time: Duration) {
        let label = System { system: system_name(system) };
        self.0.proofs.verifying.get_or_create(&label).observe(time.as_secs_f64());
    }

    /// Bytes of an artifact came in.
    pub fn received(&self, bytes: usize) {
        self.0
            .traffic
            .artifact_bytes
            .get_or_create(&Direction { direction: "in" })
            .inc_by(bytes as u64);
    }

    /// Bytes of an artifact went out.
    pub fn sent(&self, bytes: usize) {
        self.0
            .traffic
            .artifact_bytes
            .get_or_create(&Direction { direction: "out" })
            .inc_by(bytes as u64);
    }

    /// A request was answered with `status` after `time`. `method` and `endpoint` are the server's own words for them.
    pub fn answered(
        &self,
        method: &'static str,
        endpoint: &'static str,
        status: u16,
        time: Duration,
    ) {
        self.0.traffic.requests.get_or_create(&Endpoint { method, endpoint, status }).inc();
        self.0.traffic.request_time.get_or_create(&Route { endpoint }).observe(time.as_secs_f64());
    }

    /// Everything, as text, with the gauges set to what the arguments say.
    pub fn text(
        &self,
        figures: &Figures,
        here: &Here,
        intake: &IntakeStatus,
        head: Option<u64>,
    ) -> String {
        let inner = &*self.0;
        inner.watched.set(here);
        inner.jobs.set(figures);
        inner.progress.set(figures, intake, head);
        inner.clients.set(figures);
        inner.settlement.set(figures);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &inner.registry)
            .expect("writing to a string cannot fail");
        text
    }
}
