//! `l2-prover jobs`, `clients`, `intake` and `audit`: what an operator sees of a running server, and tells it.

use std::fmt;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use protocol::{
    ApiError, AuditEntry, Capability, ChangeJobs, ChangedJobs, ClientSummary, DeadCause,
    JobHistory, JobId, JobState, JobSummary, JobsDeed, Priority, ProofKind, paths,
};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::Operated;
use crate::logs::escaped;
use crate::output::{Output, thousands};
use crate::parse;
use crate::view::subject;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// Waits for a client
    Ready,
    /// A client proves it
    Leased,
    /// Its proof is being verified
    Verifying,
    /// Done
    Proved,
    /// Failed too often, quarantined or cancelled
    Dead,
}

/// `l2-prover jobs`
#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List jobs, the newest last
    List {
        /// Only jobs in this state
        #[arg(long, value_enum)]
        state: Option<StateArg>,
        /// Only jobs with a block in this range: `A` or `A..B`, both included
        #[arg(long, value_parser = parse::block_range, value_name = "A..B")]
        block: Option<parse::BlockRange>,
        /// Jobs that make something of accepted proofs, instead of those that prove blocks
        #[arg(long, value_enum)]
        kind: Option<MadeKind>,
        /// So many at most, the newest
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        limit: usize,
        /// The server
        #[command(flatten)]
        operated: Operated,
    },
    /// Show a job and what happened to it
    Show(OneJob),
    /// Give a job up, or many: their clients are told to stop. A proof that comes all the same is used
    Cancel(Many),
    /// Give a dead job another chance, or many, with fresh budgets
    Requeue(Many),
    /// Take a job from the client that has it, which is told to stop and is not to blame
    Release(OneJob),
    /// Serve a job before others, or after them
    Prioritise {
        /// The job
        #[command(flatten)]
        job: OneJob,
        /// From -100 to 100; each step makes the job ten minutes older or younger than it is
        #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
        priority: i32,
    },
}

/// What is made of accepted proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MadeKind {
    /// Folded proofs
    Aggregate,
    /// Proofs for contracts
    Groth16,
}

impl From<MadeKind> for ProofKind {
    fn from(kind: MadeKind) -> Self {
        match kind {
            MadeKind::Aggregate => Self::Aggregate,
            MadeKind::Groth16 => Self::Groth16,
        }
    }
}

/// One job, or all of some kind.
#[derive(Debug, Args)]
pub(crate) struct Many {
    /// The job's id
    #[arg(conflicts_with_all = ["all", "state", "cause", "block", "client", "set_aside"],
          required_unless_present_any = ["all", "state", "cause", "block", "client", "set_aside"])]
    pub job: Option<JobId>,
    /// All jobs for which it is possible
    #[arg(long)]
    pub all: bool,
    /// All in this state
    #[arg(long, value_enum)]
    pub state: Option<StateArg>,
    /// All that were given up for this
    #[arg(long, value_enum)]
    pub cause: Option<CauseArg>,
    /// All with a block in this range: `A` or `A..B`, both included
    #[arg(long, value_parser = parse::block_range, value_name = "A..B")]
    pub block: Option<parse::BlockRange>,
    /// All that this client has or had
    #[arg(long, value_name = "ID")]
    pub client: Option<protocol::ClientId>,
    /// All whose proofs the server no longer wants, since it now asks for another program
    #[arg(long)]
    pub set_aside: bool,
    /// Only say how many there are
    #[arg(long)]
    pub dry_run: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// Why a job was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CauseArg {
    /// It failed too often
    Budget,
    /// Two clients fell silent on it
    Quarantined,
    /// An operator cancelled it
    Cancelled,
}

impl From<CauseArg> for DeadCause {
    fn from(cause: CauseArg) -> Self {
        match cause {
            CauseArg::Budget => Self::Budget,
            CauseArg::Quarantined => Self::Quarantined,
            CauseArg::Cancelled => Self::Cancelled,
        }
    }
}

/// `l2-prover audit`
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// So many entries at most, the latest
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct OneJob {
    /// The job's id
    pub job: JobId,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// `l2-prover clients`
#[derive(Debug, Subcommand)]
pub(crate) enum Clients {
    /// List the clients, those that were heard latest first
    List(Operated),
    /// Show a client: what it can prove, on what and how fast
    Show(OneClient),
    /// Let a client finish what it has, and give it no other job
    Drain(DrainedClients),
    /// Give a client no more jobs, not even the one it has
    Quarantine(OneClient),
    /// Trust a client again
    Release(ReleasedClients),
}

/// A client.
#[derive(Debug, Args)]
pub(crate) struct OneClient {
    /// The client's id
    pub client: protocol::ClientId,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// One client to drain, or all.
#[derive(Debug, Args)]
pub(crate) struct DrainedClients {
    /// The client's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub client: Option<protocol::ClientId>,
    /// All: no server of the database grants a lease, until `release --all`
    #[arg(long)]
    pub all: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// `l2-prover intake`
#[derive(Debug, Subcommand)]
pub(crate) enum Intake {
    /// Take in no new batches, at any server of the database; those that are there are proven
    Pause(Operated),
    /// Take in new batches again
    Resume(Operated),
    /// Let another server of the database follow its node instead of this one
    HandOver(Operated),
}

/// Runs `l2-prover intake`.
pub(crate) async fn intake(args: Intake, output: &Output) -> anyhow::Result<()> {
    let (method, path, operated) = match args {
        Intake::Pause(operated) => (Method::POST, paths::PAUSE, operated),
        Intake::Resume(operated) => (Method::DELETE, paths::PAUSE, operated),
        Intake::HandOver(operated) => (Method::POST, paths::HAND_OVER, operated),
    };
    tell(&operated, method, path).await?;
    super::top::once(&operated, output).await
}

/// One client to release, or all.
#[derive(Debug, Args)]
pub(crate) struct ReleasedClients {
    /// The client's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub client: Option<protocol::ClientId>,
    /// End `drain --all`: leases are granted again. Clients that are quarantined or drained by their id stay so
    #[arg(long)]
    pub all: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// Runs `l2-prover jobs`.
pub(crate) async fn jobs(args: Jobs, output: &Output) -> anyhow::Result<()> {
    match args {
        Jobs::List { state, block, kind, limit, operated } => {
            let mut query = format!("{}?limit={}", paths::JOBS, limit.clamp(1, 1_000));
            if let Some(kind) = kind {
                query += &format!("&kind={}", ProofKind::from(kind));
            }
            if let Some(state) = state {
                query += &format!("&state={}", JobState::from(state).name());
            }
            if let Some(blocks) = block {
                query += &format!("&first={}&last={}", blocks.first(), blocks.last());
            }
            output.report(&JobList(newest(&operated, query, limit).await?))
        }
        Jobs::Show(OneJob { job, operated }) => show(&operated, job, output).await,
        Jobs::Cancel(many) => match many.job {
            Some(job) => {
                tell(&many.operated, Method::POST, &paths::cancel(&job)).await?;
                show(&many.operated, job, output).await
            }
            None => change(&many, JobsDeed::Cancel, output).await,
        },
        Jobs::Requeue(many) => match many.job {
            Some(job) => {
                tell(&many.operated, Method::POST, &paths::requeue(&job)).await?;
                show(&many.operated, job, output).await
            }
            None => change(&many, JobsDeed::Requeue, output).await,
        },
        Jobs::Release(OneJob { job, operated }) => {
            tell(&operated, Method::POST, &paths::release(&job)).await?;
            show(&operated, job, output).await
        }
        Jobs::Prioritise { job: OneJob { job, operated }, priority } => {
            let request = request(&operated, Method::POST, &paths::priority(&job))?;
            answer(request.json(&Priority { priority })).await?;
            show(&operated, job, output).await
        }
    }
}

/// Runs `l2-prover clients`.
pub(crate) async fn clients(args: Clients, output: &Output) -> anyhow::Result<()> {
    let operated = match args {
        Clients::List(operated) => operated,
        Clients::Show(one) => return show_client(&one, output).await,
        Clients::Drain(DrainedClients { client, operated, .. }) => {
            match client {
                Some(client) => {
                    tell(&operated, Method::POST, &paths::client(&client, "drain")).await?;
                }
                None => tell(&operated, Method::POST, paths::DRAIN).await?,
            }
            operated
        }
        Clients::Quarantine(one) => {
            tell(&one.operated, Method::POST, &paths::client(&one.client, "quarantine")).await?;
            one.operated
        }
        Clients::Release(ReleasedClients { client, operated, .. }) => {
            match client {
                Some(client) => {
                    tell(&operated, Method::POST, &paths::client(&client, "release")).await?;
                }
                None => tell(&operated, Method::DELETE, paths::DRAIN).await?,
            }
            operated
        }
    };
    output.report(&ClientList(all(&operated, paths::CLIENTS.to_owned(), usize::MAX).await?))
}

/// Runs `l2-prover audit`.
pub(crate) async fn audit(args: Audit, output: &Output) -> anyhow::Result<()> {
    let path = format!("{}?limit={}", paths::AUDIT, args.limit.clamp(1, 1_000));
    output.report(&AuditList(all(&args.operated, path, args.limit).await?))
}

/// Does the same to all jobs that are meant.
async fn change(many: &Many, deed: JobsDeed, output: &Output) -> anyhow::Result<()> {
    let states = match (many.state, deed) {
        (Some(state), _) => vec![state.into()],
        (None, JobsDeed::Requeue) => vec![JobState::Dead],
        (None, JobsDeed::Cancel) => vec![JobState::Ready, JobState::Leased, JobState::Verifying],
    };
    let mut sum = ChangedJobs::default();
    for state in states {
        let mut asked = ChangeJobs {
            deed,
            state,
            cause: many.cause.map(DeadCause::from),
            first: many.block.map(|blocks| blocks.first()),
            last: many.block.map(|blocks| blocks.last()),
            client: many.client,
            set_aside: many.set_aside,
            after: None,
            dry_run: many.dry_run,
        };
        loop {
            let request = request(&many.operated, Method::POST, paths::CHANGE_JOBS)?;
            let changed: ChangedJobs =
                answer(request.json(&asked)).await?.json().await.context(ODD)?;
            sum.matched += changed.matched;
            sum.changed += changed.changed;
            match changed.next {
                Some(next) => asked.after = Some(next),
                None => break,
            }
        }
    }
    output.report(&Changed { dry_run: many.dry_run, deed, changed: sum })
}

async fn show(operated: &Operated, job: JobId, output: &Output) -> anyhow::Result<()> {
    let (shown, history) = (paths::job(&job), paths::history(&job));
    output.report(&Job {
        job: read(operated, &shown).await?,
        history: read(operated, &history).await?,
    })
}

async fn show_client(one: &OneClient, output: &Output) -> anyhow::Result<()> {
    let clients: Vec<ClientSummary> =
        all(&one.operated, paths::CLIENTS.to_owned(), usize::MAX).await?;
    let client = clients.into_iter().find(|client| client.client == one.client);
    output.report(&Client(client.with_context(|| format!("there is no client {}", one.client))?))
}

/// What is said of an answer that cannot be read.
const ODD: &str = "the Prover Server answered something else than was asked";

/// A list of a server, from as many pages as it takes; at most `limit` items, those of the first pages first.
pub(super) async fn all<T: DeserializeOwned>(
    operated: &Operated,
    path: String,
    limit: usize,
) -> anyhow::Result<Vec<T>> {
    Ok(pages(operated, path, limit).await?.into_iter().flatten().take(limit).collect())
}

/// The newest jobs that `path` asks for, oldest of them first; at most `limit`.
pub(super) async fn newest(
    operated: &Operated,
    path: String,
    limit: usize,
) -> anyhow::Result<Vec<JobSummary>> {
    let pages = pages(operated, path, limit).await?;
    let count: usize = pages.iter().map(Vec::len).sum();
    // Each page is older than the one before, and has its oldest job first.
    Ok(pages.into_iter().rev().flatten().skip(count.saturating_sub(limit)).collect())
}

/// The pages of a list of a server, until they have `limit` items together or there are no more.
async fn pages<T: DeserializeOwned>(
    operated: &Operated,
    mut path: String,
    limit: usize,
) -> anyhow::Result<Vec<Vec<T>>> {
    let (mut pages, mut count) = (Vec::new(), 0);
    loop {
        let answer = answer(request(operated, Method::GET, &path)?).await?;
        let next = answer.headers().get(reqwest::header::LINK).and_then(next_page);
        let page: Vec<T> = answer.json().await.context(ODD)?;
        count += page.len();
        pages.push(page);
        match next {
            Some(next) if count < limit => path = next,
            _ => return Ok(pages),
        }
    }
}

/// The path of the next page, if the header `Link` of this server names one.
fn next_page(link: &reqwest::header::HeaderValue) -> Option<String> {
    let path = link.to_str().ok()?.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    path.starts_with(paths::V1).then(|| path.to_owned())
}

async fn tell(operated: &Operated, method: Method, path: &str) -> anyhow::Result<()> {
    answer(request(operated, method, path)?).await.map(drop)
}

pub(crate) async fn read<T: DeserializeOwned>(
    operated: &Operated,
    path: &str,
) -> anyhow::Result<T> {
    let answer = answer(request(operated, Method::GET, path)?).await?;
    answer.json().await.context(ODD)
}

pub(super) fn request(
    operated: &Operated,
    method: Method,
    path: &str,
) -> anyhow::Result<RequestBuilder> {
    let server = operated.server.trim_end_matches('/');
    let url: reqwest::Url = format!("{server}{path}")
        .parse()
        .with_context(|| format!("{server} is no address of a Prover Server (see --server)"))?;
    let access = operated.access.access();
    let client = access.http(&url)?.timeout(std::time::Duration::from_secs(30));
    let client = client.build().context("failed to set up HTTP")?;
    Ok(access.authorize(client.request(method, url))?)
}

pub(super) async fn answer(request: RequestBuilder) -> anyhow::Result<Response> {
    let answer =
        request.send().await.context("failed to reach the Prover Server (see --server)")?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    match answer.json::<ApiError>().await {
        Ok(error) => bail!("the Prover Server refused: {}", error.message),
        Err(_) => bail!("the Prover Server answered {status}"),
    }
}

impl From<StateArg> for JobState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Ready => Self::Ready,
            StateArg::Leased => Self::Leased,
            StateArg::Verifying => Self::Verifying,
            StateArg::Proved => Self::Proved,
            StateArg::Dead => Self::Dead,
        }
    }
}

/// The beginning of what went wrong, in which a client may have had a say.
pub(crate) fn shortened(error: &str) -> String {
    escaped(error).chars().take(60).collect()
}

/// State and, of a dead job, cause.
fn state(job: &JobSummary) -> String {
    match job.cause {
        Some(cause) => format!("{} ({})", job.state.name(), cause.name()),
        None => job.state.name().to_owned(),
    }
}

#[derive(Serialize)]
struct Job {
    #[serde(flatten)]
    job: JobSummary,
    history: JobHistory,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, history } = self;
        writeln!(f, "job        {}", job.job)?;
        writeln!(f, "state      {}", state(job))?;
        writeln!(
            f,
            "blocks     {}, {} transactions, {} gas",
            job.block_numbers,
            job.transactions,
            thousands(job.gas_used)
        )?;
        writeln!(f, "asks for   {} {} of program {}", job.kind, job.system, job.program_id)?;
        if let Some(part) = &job.part {
            writeln!(f, "part       {} of the proof of job {}", part.work, part.parent)?;
        }
        writeln!(
            f,
            "input      {} ({} bytes)",
            job.prover_inputs.sha256,
            thousands(job.prover_inputs.len)
        )?;
        if let Some(proof) = &job.proof {
            writeln!(f, "proof      {} ({} bytes)", proof.sha256, thousands(proof.len))?;
        }
        if let Some(client) = &job.client {
            writeln!(f, "client     {client}")?;
        }
        if let Some(error) = &job.last_error {
            writeln!(f, "last error {}", escaped(error))?;
        }
        write!(
            f,
            "failures   {}, clients lost {}, priority {}",
            job.failures, job.lost, job.priority
        )?;
        write!(f, "\n{}  enqueued", time(job.created_at))?;
        for lease in &history.leases {
            write!(f, "\n{}  leased by client {}", time(lease.granted_at), lease.client)?;
            if let Some(ended) = lease.ended_at {
                let outcome = lease.outcome.as_deref().unwrap_or("ended");
                write!(f, "\n{}  that lease: {}", time(ended), escaped(outcome))?;
            }
        }
        for proof in &history.proofs {
            let verdict = proof.verdict.as_deref().unwrap_or("being verified");
            write!(
                f,
                "\n{}  proof {}: {}",
                time(proof.received_at),
                proof.proof.sha256,
                escaped(verdict)
            )?;
            if let Some(reason) = &proof.reason {
                write!(f, ", {}", escaped(reason))?;
            }
        }
        if history.parts.is_empty() {
            return Ok(());
        }
        let mut parts =
            table(["part", "state", "client", "lent", "ended", "seconds", "lost", "last error"]);
        for part in &history.parts {
            let seconds =
                part.finished_at.zip(part.leased_at).map(|(end, start)| end.saturating_sub(start));
            parts.add_row([
                part.part.map_or(String::new(), |part| part.work.to_string()),
                state(part),
                part.client.map_or(String::new(), |client| format!("{:.8}", client.to_string())),
                part.leased_at.map_or(String::new(), time),
                part.finished_at.map_or(String::new(), time),
                seconds.map_or(String::new(), |millis| format!("{:.1}", millis as f64 / 1e3)),
                (part.lost + part.failures).to_string(),
                part.last_error.as_deref().map_or(String::new(), shortened),
            ]);
        }
        write!(f, "\n{parts}")
    }
}

/// A time of the server, in UTC.
fn time(millis: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(millis));
    // What is beyond the year 9999 is nobody's time.
    match time.filter(|_| millis < 253_402_300_800_000) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => millis.to_string(),
    }
}

#[derive(Serialize)]
struct Changed {
    dry_run: bool,
    #[serde(skip)]
    deed: JobsDeed,
    #[serde(flatten)]
    changed: ChangedJobs,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.deed {
            JobsDeed::Requeue => "requeued",
            JobsDeed::Cancel => "cancelled",
        };
        let ChangedJobs { matched, changed, .. } = self.changed;
        match self.dry_run {
            true => write!(f, "{} jobs would be {done}", thousands(matched)),
            false => {
                write!(f, "{} jobs {done}", thousands(changed))?;
                match matched - changed.min(matched) {
                    0 => Ok(()),
                    left => write!(f, ", {} left alone: they changed meanwhile", thousands(left)),
                }
            }
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct AuditList(Vec<AuditEntry>);

impl fmt::Display for AuditList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table(["when", "who", "what", "to what", "detail"]);
        for entry in &self.0 {
            table.add_row([
                time(entry.at),
                escaped(&entry.actor).to_string(),
                escaped(&entry.deed).to_string(),
                escaped(&entry.subject).to_string(),
                entry.detail.as_deref().map_or(String::new(), |detail| escaped(detail).to_string()),
            ]);
        }
        table.fmt(f)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct JobList(pub(super) Vec<JobSummary>);

impl fmt::Display for JobList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table([
            "job",
            "blocks",
            "state",
            "priority",
            "failures",
            "lost",
            "client",
            "last error",
        ]);
        for job in &self.0 {
            table.add_row([
                job.job.to_string(),
                subject(job),
                state(job),
                job.priority.to_string(),
                job.failures.to_string(),
                job.lost.to_string(),
                job.client.map_or(String::new(), |client| client.to_string()),
                job.last_error.as_deref().map_or(String::new(), shortened),
            ]);
        }
        table.fmt(f)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct ClientList(Vec<ClientSummary>);

impl fmt::Display for ClientList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table([
            "client", "name", "prover", "speed", "proved", "rejected", "failed", "heard",
            "standing",
        ]);
        for client in &self.0 {
            table.add_row([
                client.client.to_string(),
                client.name.as_deref().map_or(String::new(), |name| escaped(name).to_string()),
                client.capabilities.first().map_or(String::new(), prover),
                client.cycles_per_second.map_or(String::new(), speed),
                client.proved.to_string(),
                client.rejected.to_string(),
                client.failed.to_string(),
                time(client.last_seen),
                standing(client).to_owned(),
            ]);
        }
        table.fmt(f)
    }
}

/// How a client stands, if that is worth a word.
fn standing(client: &ClientSummary) -> &'static str {
    match client {
        ClientSummary { quarantined: true, .. } => "quarantined",
        ClientSummary { draining: true, .. } => "draining",
        ClientSummary { silent: true, .. } => "silent",
        ClientSummary { rests_until: Some(_), .. } => "resting",
        _ => "",
    }
}

/// What proves, as its client says.
pub(super) fn prover(capability: &Capability) -> String {
    match &capability.engine {
        Some(engine) => escaped(engine).to_string(),
        None => capability.system.to_string(),
    }
}

/// A client's speed, in words that fit into a table.
pub(super) fn speed(cycles_per_second: u64) -> String {
    match cycles_per_second {
        0..10_000 => format!("{cycles_per_second} Hz"),
        10_000..10_000_000 => format!("{} kHz", cycles_per_second / 1_000),
        _ => format!("{} MHz", thousands(cycles_per_second / 1_000_000)),
    }
}

/// Bytes, in whole gigabytes from 10 on.
fn gigabytes(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        gb if gb < 10.0 => format!("{gb:.1} GB"),
        gb => format!("{gb:.0} GB"),
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Client(ClientSummary);

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(client) = self;
        write!(f, "client     {}", client.client)?;
        if let Some(name) = &client.name {
            write!(f, "\nname       {}", escaped(name))?;
        }
        write!(f, "\nheard      {}", time(client.last_seen))?;
        if !standing(client).is_empty() {
            write!(f, "\nstanding   {}", standing(client))?;
        }
        write!(
            f,
            "\nproofs     {} accepted, {} rejected; failed {} times since the last accepted one",
            client.proved, client.rejected, client.failed
        )?;
        if let Some(cycles) = client.cycles_per_second {
            write!(f, "\nspeed      {} cycles a second", thousands(cycles))?;
        }
        for able in &client.capabilities {
            let kinds: Vec<_> = able.kinds.iter().map(ToString::to_string).collect();
            write!(f, "\nproves     {} proofs of {}", kinds.join(", "), able.system)?;
            write!(f, "{}", if able.mocked { ", mocked" } else { "" })?;
            write!(f, "\nprogram    {}", able.program_id)?;
            if let Some(engine) = &able.engine {
                write!(f, "\nprover     {}", escaped(engine))?;
            }
            if let Some(po2) = able.segment_po2 {
                write!(f, "\nsegments   of at most 2^{po2} cycles")?;
            }
            if let Some(memory) = able.memory_bytes {
                write!(f, "\nmemory     {}", gigabytes(memory))?;
            }
            for gpu in &able.gpus {
                let memory = gigabytes(gpu.memory_bytes);
                write!(f, "\nGPU        {}, {memory}", escaped(&gpu.name))?;
            }
        }
        Ok(())
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use protocol::{ClientId, Gpu, ProofKind, ProofSystem};

    use super::*;

    #[test]
    fn a_client_is_shown_with_what_it_says_of_itself() {
        let able = Capability {
            kinds: vec![ProofKind::Part, ProofKind::Succinct],
            segment_po2: Some(20),
            engine: Some("risc0 3.1.0-rc.1 cuda\u{1b}[2J".into()),
            memory_bytes: Some(64 << 30),
            gpus: vec![Gpu { name: "NVIDIA L4".into(), memory_bytes: 23_034 << 20 }],
            ..Capability::new(ProofSystem::Risc0, alloy_primitives::B256::ZERO, false)
        };
        let client = ClientSummary {
            client: ClientId::from_bytes([7; 16]),
            name: Some("rack 7".into()),
            last_seen: 1_000_000_000_000,
            proved: 3,
            rejected: 0,
            failed: 1,
            silent: true,
            rests_until: None,
            quarantined: false,
            draining: false,
            capabilities: vec![able],
            cycles_per_second: Some(1_234_567),
        };
        let list = ClientList(vec![client.clone()]);
        expect![[r#"
            client     07070707070707070707070707070707
            name       rack 7
            heard      2001-09-09T01:46:40Z
            standing   silent
            proofs     3 accepted, 0 rejected; failed 1 times since the last accepted one
            speed      1,234,567 cycles a second
            proves     part, succinct proofs of risc0
            program    0x0000000000000000000000000000000000000000000000000000000000000000
            prover     risc0 3.1.0-rc.1 cuda\u{1b}[2J
            segments   of at most 2^20 cycles
            memory     69 GB
            GPU        NVIDIA L4, 24 GB"#]]
        .assert_eq(&Client(client).to_string());
        expect![[r#"
            ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
             client                             name     prover                           speed      proved   rejected   failed   heard                  standing 
            ══════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════════
             07070707070707070707070707070707   rack 7   risc0 3.1.0-rc.1 cuda\u{1b}[2J   1234 kHz   3        0          1        2001-09-09T01:46:40Z   silent   
            ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────"#]].assert_eq(&list.to_string());
    }

    #[test]
    fn speeds_fit_into_a_table() {
        let shown = [1, 9_999, 10_000, 9_999_999, 10_000_000, 5_000_000_000].map(speed);
        assert_eq!(shown, ["1 Hz", "9999 Hz", "10 kHz", "9999 kHz", "10 MHz", "5,000 MHz"]);
    }
}
