//! The groups of what is counted. Each registers its families; those that are read from the database set their gauges, too.

use crate::{jobs::outcome::RecordedVerdict, store::figures::Figures};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};
use protocol::{Counts, FailureClass, IntakeStatus, ProofSystem};
use std::sync::atomic::AtomicU64;

/// The proof systems with series of their own.
const SYSTEMS: [(ProofSystem, &str); 2] =
    [(ProofSystem::Exec, "exec"), (ProofSystem::Risc0, "risc0")];

type Series<L> = Family<L, Histogram, fn() -> Histogram>;
type Float = Gauge<f64, AtomicU64>;

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub(super) $label: $type),+ }
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

/// Jobs, as they stand.
pub(super) struct Jobs {
    states: Family<StateIs, Gauge>,
    set_aside: Gauge,
    given_up: Gauge,
    oldest_open: Float,
}

impl Jobs {
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            states: family(to, "jobs", "Jobs in each state", Family::default()),
            set_aside: family(
                to,
                "jobs_set_aside",
                "Jobs ready, leased or verifying whose proof is no longer wanted: of another program, system or kind",
                Gauge::default(),
            ),
            given_up: family(
                to,
                "jobs_given_up",
                "Jobs that were given up although their proof is wanted",
                Gauge::default(),
            ),
            oldest_open: family(
                to,
                "oldest_open_batch_age_seconds",
                "Time since the oldest batch that is neither proved, given up nor set aside was enqueued; 0 if there is none",
                Float::default(),
            ),
        }
    }

    pub(super) fn set(&self, figures: &Figures) {
        let Counts { ready, leased, verifying, proved, dead, superseded, set_aside } =
            figures.counts;
        for (state, count) in [
            ("ready", ready),
            ("leased", leased),
            ("verifying", verifying),
            ("proved", proved),
            ("dead", dead),
            ("superseded", superseded),
        ] {
            self.states.get_or_create(&StateIs { state }).set(count.cast_signed());
        }
        self.set_aside.set(set_aside.cast_signed());
        self.given_up.set(figures.given_up.cast_signed());
        self.oldest_open.set(figures.oldest_open.unwrap_or_default().as_secs_f64());
    }
}

/// What is settled on L1.
pub(super) struct Settlement {
    contracts: Gauge,
    settled: Gauge,
    finalized: Gauge,
    lag: Gauge,
    balance: Gauge,
    waiting: Float,
    silent: Float,
    alarm: Gauge,
}

impl Settlement {
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            contracts: family(
                to,
                "settlement_contracts",
                "Contracts on L1 that proven batches are settled in; the other figures are the worst of theirs",
                Gauge::default(),
            ),
            settled: family(
                to,
                "settled_block",
                "Last block that is settled in L1's newest block",
                Gauge::default(),
            ),
            finalized: family(
                to,
                "settled_final_block",
                "Last block that is settled in a finalized block of L1",
                Gauge::default(),
            ),
            lag: family(
                to,
                "settlement_lag_blocks",
                "Blocks from the last settled one to the last one proved without a gap; 0 if nothing is settled",
                Gauge::default(),
            ),
            balance: family(
                to,
                "settlement_wallet_gwei",
                "What the wallet has that settles",
                Gauge::default(),
            ),
            waiting: family(
                to,
                "settlement_waiting_seconds",
                "How long the oldest signed transaction has waited for L1; 0 if none waits",
                Float::default(),
            ),
            silent: family(
                to,
                "settlement_silent_seconds",
                "Time since a sender saw L1 last",
                Float::default(),
            ),
            alarm: family(
                to,
                "settlement_alarm",
                "1 if something keeps a batch from being settled",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn set(&self, figures: &Figures) {
        let it = &figures.settlement;
        let lag = match figures.contracts {
            0 => 0,
            _ => figures.proved_through.unwrap_or(0).saturating_sub(it.settled),
        };
        for (gauge, value) in [
            (&self.contracts, figures.contracts),
            (&self.settled, it.settled),
            (&self.finalized, it.finalized),
            (&self.lag, lag),
            (&self.balance, it.balance_gwei),
            (&self.alarm, it.alarm.into()),
        ] {
            // What L1 says may be any number.
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.waiting.set(it.waiting.as_secs_f64());
        self.silent.set(it.silent.as_secs_f64());
    }
}

/// How far the chain is enqueued and proved, and what the intake does.
pub(super) struct Progress {
    head: Gauge,
    enqueued: Gauge,
    proved: Gauge,
    lag: Gauge,
    intake: Family<StateIs, Gauge>,
}

impl Progress {
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            head: family(
                to,
                "head_block",
                "Newest block of the L2 node; 0 if unknown",
                Gauge::default(),
            ),
            enqueued: family(to, "enqueued_block", "Last block that has a job", Gauge::default()),
            proved: family(
                to,
                "proved_block",
                "Every block up to this one is proved, without a gap",
                Gauge::default(),
            ),
            lag: family(
                to,
                "lag_blocks",
                "Blocks from the last one proved without a gap to the node's head",
                Gauge::default(),
            ),
            intake: family(
                to,
                "intake",
                "1 for what the intake of new blocks does now, 0 for the rest",
                Family::default(),
            ),
        }
    }

    pub(super) fn set(&self, figures: &Figures, intake: &IntakeStatus, head: Option<u64>) {
        let now = intake_name(intake);
        for state in INTAKE {
            self.intake.get_or_create(&StateIs { state }).set(i64::from(state == now));
        }
        let through = figures.proved_through.or(figures.first_block.map(|first| first - 1));
        // A head that no chain reaches is refused before; should one come through, it must not look like no lag.
        let counted = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.head.set(counted(head.unwrap_or(0)));
        self.enqueued.set(figures.enqueued.unwrap_or(0).cast_signed());
        self.proved.set(figures.proved_through.unwrap_or(0).cast_signed());
        let lag = head.zip(through).map_or(0, |(head, last)| head.saturating_sub(last));
        self.lag.set(counted(lag));
    }
}

/// Leases, and how they fail.
pub(super) struct Leases {
    pub(super) latency: Histogram,
    pub(super) granted: Family<System, Counter>,
    pub(super) expired: Counter,
    pub(super) failures: Family<Class, Counter>,
}

impl Leases {
    pub(super) fn register(to: &mut Registry) -> Self {
        let this = Self {
            latency: family(
                to,
                "lease_latency_seconds",
                "Time from a client's request to the lease granted on it; includes waiting for a job",
                seconds(),
            ),
            granted: family(to, "leases_granted", "Leases granted", Family::default()),
            expired: family(
                to,
                "leases_expired",
                "Leases taken back from clients that fell silent",
                Counter::default(),
            ),
            failures: family(
                to,
                "failures",
                "Failures reported by clients, by class",
                Family::default(),
            ),
        };
        for system in systems() {
            drop(this.granted.get_or_create(&system));
        }
        for class in FailureClass::ALL {
            drop(this.failures.get_or_create(&Class { class: class.name() }));
        }
        this
    }
}

/// Proofs: their verdicts, and what they took.
pub(super) struct Proofs {
    pub(super) submissions: Family<Verdict, Counter>,
    pub(super) proving: Series<System>,
    pub(super) proving_mgas: Series<System>,
    pub(super) proving_mcycle: Series<System>,
    pub(super) verifying: Series<System>,
}

impl Proofs {
    pub(super) fn register(to: &mut Registry) -> Self {
        let this = Self {
            submissions: family(to, "submissions", "Proofs judged, by verdict", Family::default()),
            proving: family(
                to,
                "proving_seconds",
                "Time from lease to submission of an accepted proof",
                Family::new_with_constructor(proving),
            ),
            proving_mgas: family(
                to,
                "proving_per_mgas_seconds",
                "Time from lease to submission of an accepted proof, for each million gas of its batch",
                Family::new_with_constructor(per_unit),
            ),
            proving_mcycle: family(
                to,
                "proving_per_mcycle_seconds",
                "Time from lease to submission of an accepted proof, for each million cycles it was expected to cost",
                Family::new_with_constructor(per_unit),
            ),
            verifying: family(
                to,
                "verifying_seconds",
                "Time to verify a proof",
                Family::new_with_constructor(seconds),
            ),
        };
        for verdict in RecordedVerdict::ALL {
            drop(this.submissions.get_or_create(&Verdict { verdict: verdict.name() }));
        }
        for system in systems() {
            for series in [&this.proving, &this.proving_mgas, &this.proving_mcycle, &this.verifying]
            {
                drop(series.get_or_create(&system));
            }
        }
        this
    }
}

/// How one server stands, apart from what its database knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Proofs that wait to be verified, or are.
    pub proofs_waiting: u64,
    /// Requests for work that are held open.
    pub requests_waiting: u64,
    /// Jobs that are ready, and that no client proves or has asked for lately.
    pub jobs_without_prover: u64,
    /// When the first token expires, in seconds of Unix time; 0 if none does.
    pub token_expires: i64,
    /// When the server's certificate expires, in seconds of Unix time; 0 without TLS.
    pub certificate_expires: i64,
}

/// What operators want to be called for, and no database knows.
pub(super) struct Watched {
    proofs_waiting: Gauge,
    requests_waiting: Gauge,
    jobs_without_prover: Gauge,
    token_expires: Gauge,
    certificate_expires: Gauge,
}

impl Watched {
    pub(super) fn register(to: &mut Registry) -> Self {
        let mut gauge = |name, help| family(to, name, help, Gauge::default());
        Self {
            proofs_waiting: gauge(
                "verification_queue",
                "Proofs that wait to be verified by this server, or are being verified",
            ),
            requests_waiting: gauge(
                "requests_waiting",
                "Requests for work that this server holds open",
            ),
            jobs_without_prover: gauge(
                "jobs_without_prover",
                "Jobs ready whose kind no client has a lease on, and for which none that can prove it has asked this server within two minutes",
            ),
            token_expires: gauge(
                "token_expiry_timestamp_seconds",
                "When the first token expires, in Unix time; 0 if none does",
            ),
            certificate_expires: gauge(
                "certificate_expiry_timestamp_seconds",
                "When the server's certificate expires, in Unix time; 0 without TLS",
            ),
        }
    }

    pub(super) fn set(&self, here: &Here) {
        self.proofs_waiting.set(here.proofs_waiting.cast_signed());
        self.requests_waiting.set(here.requests_waiting.cast_signed());
        self.jobs_without_prover.set(here.jobs_without_prover.cast_signed());
        self.token_expires.set(here.token_expires);
        self.certificate_expires.set(here.certificate_expires);
    }
}

/// Clients, as they stand.
pub(super) struct Clients {
    alive: Gauge,
    busy: Gauge,
    quarantined: Gauge,
}

impl Clients {
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            alive: family(
                to,
                "clients_alive",
                "Clients heard within the last two minutes",
                Gauge::default(),
            ),
            busy: family(to, "clients_busy", "Clients that hold a lease", Gauge::default()),
            quarantined: family(
                to,
                "clients_quarantined",
                "Clients that get no job until an operator releases them",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn set(&self, figures: &Figures) {
        self.alive.set(figures.clients_alive.cast_signed());
        self.busy.set(figures.clients_busy.cast_signed());
        self.quarantined.set(figures.clients_quarantined.cast_signed());
    }
}

/// What goes over HTTP.
pub(super) struct Traffic {
    pub(super) artifact_bytes: Family<Direction, Counter>,
    pub(super) requests: Family<Endpoint, Counter>,
    pub(super) request_time: Series<Route>,
}

impl Traffic {
    pub(super) fn register(to: &mut Registry) -> Self {
        let this = Self {
            artifact_bytes: family(
                to,
                "artifact_bytes",
                "Bytes of artifacts received (in) and sent (out)",
                Family::default(),
            ),
            requests: family(
                to,
                "http_requests",
                "HTTP requests answered, by method, endpoint and status; endpoint `other` is none of ours",
                Family::default(),
            ),
            request_time: family(
                to,
                "http_request_duration_seconds",
                "Time to answer an HTTP request, until its body begins; requests for work are held open",
                Family::new_with_constructor(seconds),
            ),
        };
        for direction in ["in", "out"] {
            drop(this.artifact_bytes.get_or_create(&Direction { direction }));
        }
        this
    }
}

/// Registers a family, or a metric without labels, and hands it back.
fn family<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: M) -> M {
    to.register(name, help, metric.clone());
    metric
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 10))
}

fn proving() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 3.0, 14))
}

fn per_unit() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 3.0, 16))
}

/// The labels of all proof systems.
fn systems() -> impl Iterator<Item = System> {
    SYSTEMS.into_iter().map(|(system, name)| {
        debug_assert_eq!(system.to_string(), name);
        System { system: name }
    })
}

pub(super) fn system_name(system: ProofSystem) -> &'static str {
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
