//! `l2-prover tokens`: who may do what with a server. Works on its database, whether it runs or not.

use std::fmt;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde::Serialize;
use server::tokens::{BearerToken, NewToken, Token, Tokens};

use crate::args::{self, ServerData};
use crate::output::Output;

/// Runs the command.
pub async fn run(args: args::Tokens, output: &Output) -> anyhow::Result<()> {
    match args {
        args::Tokens::Create { name, role, client, certificate, expires, data } => {
            let tokens = open(&data).await?;
            let new =
                NewToken { name, role: role.into(), client, certificate, lifetime: expires.0 };
            let made = tokens.create(&new).await.context("failed to make a token")?;
            tokens.close().await;
            output.report(&Made::new("created", made))
        }
        args::Tokens::List { data } => {
            let tokens = open(&data).await?;
            let (list, now) = (tokens.list().await, tokens.now().await);
            tokens.close().await;
            let list = list.context("failed to read the tokens")?;
            let now = now.context("failed to ask for the time")?.0;
            output.report(&List(list.into_iter().map(|token| Listed::new(token, now)).collect()))
        }
        args::Tokens::Rotate { token, certificate, expires, grace, data } => {
            let tokens = open(&data).await?;
            let made = tokens.rotate(token, certificate.as_deref(), expires.0, grace).await;
            tokens.close().await;
            output.report(&Made::new("rotated", made.context("failed to rotate the token")?))
        }
        args::Tokens::Revoke { token, data } => {
            let tokens = open(&data).await?;
            let token = tokens.revoke(token).await;
            tokens.close().await;
            let token = token.context("failed to revoke the token")?;
            output.report(&Revoked { event: "revoked", token })
        }
    }
}

async fn open(data: &ServerData) -> anyhow::Result<Tokens> {
    let database = data.database.clone().map(server::DatabaseUrl::new);
    let tokens = Tokens::open(&data.data_dir, database.as_ref()).await;
    tokens.with_context(|| format!("failed to open the tokens of {}", data.data_dir.display()))
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

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { id, name, role, .. } = &self.made;
        write!(f, "token {id} of {name:?}, role {}", role.name())?;
        match &self.token {
            Some(token) => write!(f, "; it is not shown again:\n{token}"),
            None => f.write_str("; its owner shows the certificate"),
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
