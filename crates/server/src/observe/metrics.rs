//! What one server counts and measures, in the OpenMetrics text format that Prometheus reads.
//!
//! * Each server has a registry of its own: several may run in one process.
//! * Gauges of jobs, clients and blocks are read from the database when somebody asks: they survive a restart, and all
//!   servers on one database show the same. What happens is counted by the server where it happens, since its start.
//! * A label's value is `&'static str` or a number of ours: nothing that a client sends can become one.

use crate::{
    jobs::{cost::ProvingCost, outcome::RecordedVerdict},
    store::figures::Figures,
};
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
use protocol::{Counts, FailureClass, IntakeStatus, ProofSystem};
use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// How the text is labelled over HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A client that was heard within this time is alive: longer than any pause between two of its calls.
pub const ALIVE: Duration = Duration::from_secs(120);

/// The proof systems with series of their own.
const SYSTEMS: [(ProofSystem, &str); 2] =
    [(ProofSystem::Exec, "exec"), (ProofSystem::Risc0, "risc0")];

type Series<L, M> = Family<L, M, fn() -> M>;
type Float = Gauge<f64, AtomicU64>;

/// What a server has counted since its start. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    leases_granted: Family<System, Counter>,
    leases_expired: Counter,
    failures: Family<Class, Counter>,
    submissions: Family<Verdict, Counter>,
    lease_latency: Histogram,
    proving: Series<System, Histogram>,
    proving_mgas: Series<System, Histogram>,
    proving_mcycle: Series<System, Histogram>,
    verifying: Series<System, Histogram>,
    artifact_bytes: Family<Direction, Counter>,
    requests: Family<Endpoint, Counter>,
    request_time: Series<Route, Histogram>,
    jobs: Family<StateIs, Gauge>,
    set_aside: Gauge,
    intake: Family<StateIs, Gauge>,
    clients_alive: Gauge,
    clients_busy: Gauge,
    clients_quarantined: Gauge,
    oldest_open: Float,
    head: Gauge,
    enqueued: Gauge,
    proved: Gauge,
    lag: Gauge,
}

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),+ }
    )+};
}

labels! {
    System { system: &'static str }
    Class { class: &'static str }
    Verdict { verdict: &'static str }
    Direction { direction: &'static str }
    StateIs { state: &'static str }
    Route { endpoint: &'static str }
    Endpoint { method: &'static str, endpoint: &'static str, status: u16 }
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
        let seconds = || Histogram::new(exponential_buckets(0.001, 4.0, 10));
        let proving = || Histogram::new(exponential_buckets(0.1, 3.0, 14));
        let per_unit = || Histogram::new(exponential_buckets(0.001, 3.0, 16));
        let mut registry = Registry::with_prefix("prover_server");
        let inner = Inner {
            leases_granted: Family::default(),
            leases_expired: Counter::default(),
            failures: Family::default(),
            submissions: Family::default(),
            lease_latency: seconds(),
            proving: Family::new_with_constructor(proving),
            proving_mgas: Family::new_with_constructor(per_unit),
            proving_mcycle: Family::new_with_constructor(per_unit),
            verifying: Family::new_with_constructor(seconds),
            artifact_bytes: Family::default(),
            requests: Family::default(),
            request_time: Family::new_with_constructor(seconds),
            jobs: Family::default(),
            set_aside: Gauge::default(),
            intake: Family::default(),
            clients_alive: Gauge::default(),
            clients_busy: Gauge::default(),
            clients_quarantined: Gauge::default(),
            oldest_open: Float::default(),
            head: Gauge::default(),
            enqueued: Gauge::default(),
            proved: Gauge::default(),
            lag: Gauge::default(),
            registry: Registry::default(),
        };
        for (system, name) in SYSTEMS {
            debug_assert_eq!(system.to_string(), name);
            let label = System { system: name };
            drop(inner.leases_granted.get_or_create(&label));
            for family in
                [&inner.proving, &inner.proving_mgas, &inner.proving_mcycle, &inner.verifying]
            {
                drop(family.get_or_create(&label));
            }
        }
        for class in FailureClass::ALL {
            drop(inner.failures.get_or_create(&Class { class: class.name() }));
        }
        for verdict in RecordedVerdict::ALL {
            drop(inner.submissions.get_or_create(&Verdict { verdict: verdict.name() }));
        }
        for direction in ["in", "out"] {
            drop(inner.artifact_bytes.get_or_create(&Direction { direction }));
        }

        let r = &mut registry;
        r.register("jobs", "Jobs in each state", inner.jobs.clone());
        r.register(
            "jobs_set_aside",
            "Jobs ready, leased or verifying whose proof is no longer wanted: of another program, system or kind",
            inner.set_aside.clone(),
        );
        r.register(
            "oldest_open_batch_age_seconds",
            "Time since the oldest batch that is neither proved, given up nor set aside was enqueued; 0 if there is none",
            inner.oldest_open.clone(),
        );
        r.register("head_block", "Newest block of the L2 node; 0 if unknown", inner.head.clone());
        r.register("enqueued_block", "Last block that has a job", inner.enqueued.clone());
        r.register(
            "proved_block",
            "Every block up to this one is proved, without a gap",
            inner.proved.clone(),
        );
        r.register(
            "lag_blocks",
            "Blocks from the last one proved without a gap to the node's head",
            inner.lag.clone(),
        );
        r.register(
            "intake",
            "1 for what the intake of new blocks does now, 0 for the rest",
            inner.intake.clone(),
        );
        r.register(
            "lease_latency_seconds",
            "Time from a client's request to the lease granted on it; includes waiting for a job",
            inner.lease_latency.clone(),
        );
        r.register("leases_granted", "Leases granted", inner.leases_granted.clone());
        r.register(
            "leases_expired",
            "Leases taken back from clients that fell silent",
            inner.leases_expired.clone(),
        );
        r.register("failures", "Failures reported by clients, by class", inner.failures.clone());
        r.register("submissions", "Proofs judged, by verdict", inner.submissions.clone());
        r.register(
            "proving_seconds",
            "Time from lease to submission of an accepted proof",
            inner.proving.clone(),
        );
        r.register(
            "proving_per_mgas_seconds",
            "Time from lease to submission of an accepted proof, for each million gas of its batch",
            inner.proving_mgas.clone(),
        );
        r.register(
            "proving_per_mcycle_seconds",
            "Time from lease to submission of an accepted proof, for each million cycles it was expected to cost",
            inner.proving_mcycle.clone(),
        );
        r.register("verifying_seconds", "Time to verify a proof", inner.verifying.clone());
        r.register(
            "clients_alive",
            "Clients heard within the last two minutes",
            inner.clients_alive.clone(),
        );
        r.register("clients_busy", "Clients that hold a lease", inner.clients_busy.clone());
        r.register(
            "clients_quarantined",
            "Clients that get no job until an operator releases them",
            inner.clients_quarantined.clone(),
        );
        r.register(
            "artifact_bytes",
            "Bytes of artifacts received (in) and sent (out)",
            inner.artifact_bytes.clone(),
        );
        r.register(
            "http_requests",
            "HTTP requests answered, by method, endpoint and status; endpoint `other` is none of ours",
            inner.requests.clone(),
        );
        r.register(
            "http_request_duration_seconds",
            "Time to answer an HTTP request, until its body begins; requests for work are held open",
            inner.request_time.clone(),
        );
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        r.register("build", "Version of this server", Info::new(version));
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// A lease was granted on a request that came `waited` ago.
    pub fn leased(&self, system: ProofSystem, waited: Duration) {
        self.0.leases_granted.get_or_create(&System { system: system_name(system) }).inc();
        self.0.lease_latency.observe(waited.as_secs_f64());
    }

    /// A lease was taken back from a client that fell silent.
    pub fn lease_expired(&self) {
        self.0.leases_expired.inc();
    }

    /// A client reported a failure.
    pub fn failed(&self, class: FailureClass) {
        self.0.failures.get_or_create(&Class { class: class.name() }).inc();
    }

    /// A proof was judged.
    pub fn judged(&self, verdict: RecordedVerdict) {
        self.0.submissions.get_or_create(&Verdict { verdict: verdict.name() }).inc();
    }

    /// A proof that took `effort` was accepted.
    pub fn proved(&self, system: ProofSystem, effort: &ProvingCost) {
        let Some(time) = effort.time else { return };
        let (label, seconds) = (System { system: system_name(system) }, time.as_secs_f64());
        self.0.proving.get_or_create(&label).observe(seconds);
        for (family, units) in
            [(&self.0.proving_mgas, effort.gas), (&self.0.proving_mcycle, effort.cycles)]
        {
            if units > 0 {
                family.get_or_create(&label).observe(seconds * 1e6 / units as f64);
            }
        }
    }

    /// Verifying a proof took `time`.
    pub fn verified(&self, system: ProofSystem, time: Duration) {
        let label = System { system: system_name(system) };
        self.0.verifying.get_or_create(&label).observe(time.as_secs_f64());
    }

    /// Bytes of an artifact came in.
    pub fn received(&self, bytes: usize) {
        self.0.artifact_bytes.get_or_create(&Direction { direction: "in" }).inc_by(bytes as u64);
    }

    /// Bytes of an artifact went out.
    pub fn sent(&self, bytes: usize) {
        self.0.artifact_bytes.get_or_create(&Direction { direction: "out" }).inc_by(bytes as u64);
    }

    /// A request was answered with `status` after `time`. `method` and `endpoint` are the server's own words for them.
    pub fn answered(
        &self,
        method: &'static str,
        endpoint: &'static str,
        status: u16,
        time: Duration,
    ) {
        self.0.requests.get_or_create(&Endpoint { method, endpoint, status }).inc();
        self.0.request_time.get_or_create(&Route { endpoint }).observe(time.as_secs_f64());
    }

    /// Everything, as text, with the gauges set to what the arguments say.
    pub fn text(&self, figures: &Figures, intake: &IntakeStatus, head: Option<u64>) -> String {
        let inner = &*self.0;
        let Counts { ready, leased, verifying, proved, dead, superseded, set_aside } =
            figures.counts;
        inner.set_aside.set(set_aside.cast_signed());
        for (state, count) in [
            ("ready", ready),
            ("leased", leased),
            ("verifying", verifying),
            ("proved", proved),
            ("dead", dead),
            ("superseded", superseded),
        ] {
            inner.jobs.get_or_create(&StateIs { state }).set(count.cast_signed());
        }
        let now = intake_name(intake);
        for state in INTAKE {
            inner.intake.get_or_create(&StateIs { state }).set(i64::from(state == now));
        }
        inner.clients_alive.set(figures.clients_alive.cast_signed());
        inner.clients_busy.set(figures.clients_busy.cast_signed());
        inner.clients_quarantined.set(figures.clients_quarantined.cast_signed());
        inner.oldest_open.set(figures.oldest_open.unwrap_or_default().as_secs_f64());
        let through = figures.proved_through.or(figures.first_block.map(|first| first - 1));
        inner.head.set(head.unwrap_or(0).cast_signed());
        inner.enqueued.set(figures.enqueued.unwrap_or(0).cast_signed());
        inner.proved.set(figures.proved_through.unwrap_or(0).cast_signed());
        let lag = head.zip(through).map_or(0, |(head, last)| head.saturating_sub(last));
        inner.lag.set(lag.cast_signed());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &inner.registry)
            .expect("writing to a string cannot fail");
        text
    }
}

fn system_name(system: ProofSystem) -> &'static str {
    SYSTEMS.iter().find(|(known, _)| *known == system).map_or("other", |(_, name)| name)
}

const INTAKE: [&str; 6] = ["off", "standby", "following", "full", "retrying", "halted"];

fn intake_name(status: &IntakeStatus) -> &'static str {
    match status {
        IntakeStatus::Off => "off",
        IntakeStatus::Standby => "standby",
        IntakeStatus::Following => "following",
        IntakeStatus::Full => "full",
        IntakeStatus::Retrying { .. } => "retrying",
        IntakeStatus::Halted { .. } => "halted",
    }
}
