//! `l2-prover tokens`: who may do what with a server. Works on its database, whether it runs or not.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use serde::Serialize;
use server::tokens::{BearerToken, NewToken, Token, Tokens};

use crate::args::ServerData;
use crate::output::Output;
use crate::parse;

/// What a token's owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Take jobs and hand proofs in
    Client,
    /// Hand batches in
    Producer,
    /// Fetch proofs
    Consumer,
    /// Decide about jobs and clients
    Operator,
    /// Look
    Viewer,
}

impl From<RoleArg> for server::tokens::Role {
    fn from(arg: RoleArg) -> Self {
        match arg {
            RoleArg::Client => Self::Client,
            RoleArg::Producer => Self::Producer,
            RoleArg::Consumer => Self::Consumer,
            RoleArg::Operator => Self::Operator,
            RoleArg::Viewer => Self::Viewer,
        }
    }
}

/// `l2-prover tokens`
#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token and show it, once
    Create {
        /// What people call its owner
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What its owner may do
        #[arg(long, value_enum)]
        role: RoleArg,
        /// The only client that its owner may speak for; its id is in the client's folder, in `client-id`
        #[arg(long, value_name = "ID")]
        client: Option<protocol::ClientId>,
        /// A client certificate, in PEM, that the owner shows instead of a secret
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// How long it is good: for example 90d or 12h, or never
        #[arg(long, default_value = "365d", value_parser = parse::lifetime, value_name = "TIME")]
        expires: parse::Lifetime,
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
    /// List all tokens, those that have ended included
    List {
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
    /// Make a new secret for a token's owner; the old one ends after a while
    Rotate {
        /// The token's id
        token: server::tokens::TokenId,
        /// The new certificate of an owner that shows one
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// How long the new one is good: for example 90d or 12h, or never
        #[arg(long, default_value = "365d", value_parser = parse::lifetime, value_name = "TIME")]
        expires: parse::Lifetime,
        /// How long the old one is still good
        #[arg(long, default_value = "1h", value_parser = parse::duration, value_name = "TIME")]
        grace: Duration,
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
    /// End a token now
    Revoke {
        /// The token's id
        token: server::tokens::TokenId,
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
}

/// Runs the command.
pub(crate) async fn run(args: TokensCommand, output: &Output) -> anyhow::Result<()> {
    match args {
        TokensCommand::Create { name, role, client, certificate, expires, data } => {
            let tokens = open(&data, Folder::MayBeNew, output).await?;
            let new =
                NewToken { name, role: role.into(), client, certificate, lifetime: expires.0 };
            let made = tokens.create(&new).await.context("failed to make a token")?;
            tokens.close().await;
            report(&Made::new("created", made), output)
        }
        TokensCommand::List { data } => {
            let tokens = open(&data, Folder::Exists, output).await?;
            let (list, now) = (tokens.list().await, tokens.now().await);
            tokens.close().await;
            let list = list.context("failed to read the tokens")?;
            let now = now.context("failed to ask for the time")?.0;
            output.report(&List(list.into_iter().map(|token| Listed::new(token, now)).collect()))
        }
        TokensCommand::Rotate { token, certificate, expires, grace, data } => {
            let tokens = open(&data, Folder::Exists, output).await?;
            let made = tokens.rotate(token, certificate.as_deref(), expires.0, grace).await;
            tokens.close().await;
            report(&Made::new("rotated", made.context("failed to rotate the token")?), output)
        }
        TokensCommand::Revoke { token, data } => {
            let tokens = open(&data, Folder::Exists, output).await?;
            let token = tokens.revoke(token).await;
            tokens.close().await;
            let token = token.context("failed to revoke the token")?;
            output.report(&Revoked { event: "revoked", token })
        }
    }
}

/// Whether the server's folder must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folder {
    /// A server has run there.
    Exists,
    /// The first token may be made before a server has run.
    MayBeNew,
}

async fn open(data: &ServerData, folder: Folder, output: &Output) -> anyhow::Result<Tokens> {
    let config = data.config()?;
    let shown = config.data_dir.display();
    if config.database.is_none() && !config.data_dir.join(server::data_folder::JOBS).exists() {
        ensure!(
            folder == Folder::MayBeNew,
            "{shown} holds no tokens: name the server's settings file or folder (--config, --data-dir)"
        );
        output.note(&format!("{shown} is new: start the server with this --data-dir"));
    }
    let tokens = Tokens::open(&config.data_dir, config.database.as_ref()).await;
    tokens.with_context(|| format!("failed to open the tokens of {}", config.data_dir.display()))
}

#[derive(Serialize)]
struct Made {
    event: &'static str,
    #[serde(flatten)]
    made: Token,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Made {
    fn new(event: &'static str, (made, shown): (Token, Option<BearerToken>)) -> Self {
        Self { event, made, token: shown.map(|shown| shown.text()) }
    }
}

/// On stdout a secret stands alone, for scripts and files.
fn report(made: &Made, output: &Output) -> anyhow::Result<()> {
    if made.token.is_some() {
        output.note(&format!("{}; it is not shown again:", made.words()));
    }
    output.report(made)
}

impl Made {
    fn words(&self) -> String {
        let Token { id, name, role, .. } = &self.made;
        format!("token {id} of {name:?}, role {}", role.name())
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            Some(token) => f.write_str(token),
            None => write!(f, "{}; its owner shows the certificate", self.words()),
        }
    }
}

#[derive(Serialize)]
struct Revoked {
    event: &'static str,
    #[serde(flatten)]
    token: Token,
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "token {} of {:?} is revoked; servers know within a second",
            self.token.id, self.token.name
        )
    }
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    token: Token,
    state: &'static str,
    #[serde(skip)]
    ends: String,
}

impl Listed {
    fn new(token: Token, now: u64) -> Self {
        let state = match token {
            _ if token.valid_at(now) => "valid",
            Token { revoked_at: Some(_), .. } => "revoked",
            _ => "expired",
        };
        let ends = match token.expires_at {
            None => "never".to_owned(),
            Some(end) => {
                let hours = end.abs_diff(now).div_ceil(3_600_000);
                let span =
                    if hours < 48 { format!("{hours} h") } else { format!("{} d", hours / 24) };
                if end < now { format!("{span} ago") } else { format!("in {span}") }
            }
        };
        Self { token, state, ends }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Listed>);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["id", "name", "role", "client", "expires", "state"]);
        for Listed { token, state, ends } in &self.0 {
            table.add_row([
                token.id.to_string(),
                token.name.clone(),
                token.role.name().to_owned(),
                token.client.map_or(String::new(), |client| client.to_string()),
                ends.clone(),
                (*state).to_owned(),
            ]);
        }
        table.fmt(f)
    }
}
