//! `l2-prover jobs` and `l2-prover clients`: what an operator sees of a running server, and tells it.

use std::fmt;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use protocol::{ApiError, ClientSummary, JobId, JobState, JobSummary, Priority, paths};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::Operated;
use crate::logs::escaped;
use crate::output::{Output, thousands};

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
    /// List the newest jobs, at most 1,000
    List {
        /// Only jobs in this state
        #[arg(long, value_enum)]
        state: Option<StateArg>,
        /// The server
        #[command(flatten)]
        operated: Operated,
    },
    /// Show a job
    Show(OneJob),
    /// Give a job up: its client is told to stop. A proof that comes all the same is used
    Cancel(OneJob),
    /// Give a dead job another chance, with fresh budgets
    Requeue(OneJob),
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
    /// List the clients that were heard latest
    List(Operated),
    /// Let a client finish what it has, and give it no other job
    Drain(DrainedClients),
    /// Give a client no more jobs, not even the one it has
    Quarantine(OneClient),
    /// Trust a client again. One that was drained has to be started anew
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
    /// All of this server, until it starts again: it grants no more leases
    #[arg(long)]
    pub all: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// One client to release, or all.
#[derive(Debug, Args)]
pub(crate) struct ReleasedClients {
    /// The client's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub client: Option<protocol::ClientId>,
    /// End `drain --all`: the server grants leases again. Clients that are quarantined or drained by their id stay so
    #[arg(long)]
    pub all: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// Runs `l2-prover jobs`.
pub(crate) async fn jobs(args: Jobs, output: &Output) -> anyhow::Result<()> {
    match args {
        Jobs::List { state, operated } => {
            let query = state
                .map_or(String::new(), |state| format!("?state={}", JobState::from(state).name()));
            output.report(&JobList(read(&operated, &format!("{}{query}", paths::JOBS)).await?))
        }
        Jobs::Show(OneJob { job, operated }) => show(&operated, job, output).await,
        Jobs::Cancel(OneJob { job, operated }) => {
            tell(&operated, Method::POST, &paths::cancel(&job)).await?;
            show(&operated, job, output).await
        }
        Jobs::Requeue(OneJob { job, operated }) => {
            tell(&operated, Method::POST, &paths::requeue(&job)).await?;
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
    output.report(&ClientList(read(&operated, paths::CLIENTS).await?))
}

async fn show(operated: &Operated, job: JobId, output: &Output) -> anyhow::Result<()> {
    output.report(&Job(read(operated, &paths::job(&job)).await?))
}

async fn tell(operated: &Operated, method: Method, path: &str) -> anyhow::Result<()> {
    answer(request(operated, method, path)?).await.map(drop)
}

pub(crate) async fn read<T: DeserializeOwned>(
    operated: &Operated,
    path: &str,
) -> anyhow::Result<T> {
    let answer = answer(request(operated, Method::GET, path)?).await?;
    answer.json().await.context("the Prover Server answered something else than was asked")
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
#[serde(transparent)]
struct Job(JobSummary);

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = &self.0;
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
        )
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
                job.block_numbers.to_string(),
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
        let mut table = table(["client", "proved", "rejected", "standing"]);
        for client in &self.0 {
            let standing = match client {
                ClientSummary { quarantined: true, .. } => "quarantined",
                ClientSummary { draining: true, .. } => "draining",
                ClientSummary { rests_until: Some(_), .. } => "resting",
                _ => "",
            };
            table.add_row([
                client.client.to_string(),
                client.proved.to_string(),
                client.rejected.to_string(),
                standing.to_owned(),
            ]);
        }
        table.fmt(f)
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    table
}
