//! The settings of `l2-prover server`: flags win over environment, environment over the file, the file over the defaults.
//!
//! * The file has the keys of [`server::Config`], of [`NodeSettings`] and of [`SettleArgs`].
//! * Every mistake in it is named, not only the first.

mod node;
#[cfg(test)]
mod page;

pub(crate) use node::{NodeSettings, address, one_or_several};

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ArgMatches;
use clap::parser::ValueSource;
use program::ChainConfig;
use protocol::ProofKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::args::SettleArgs;
use crate::commands::server::{Server, heartbeat_for};

/// Keys that were renamed, old and new. A file may have the old ones until the version after this one.
const RENAMED: [(&str, &str); 4] = [
    ("start_block", "first_block"),
    ("system", "prover"),
    ("danger_accept_exec_proofs", "danger_accept_exec"),
    ("danger_accept_dev_mode_proofs", "danger_accept_dev_mode"),
];

/// Keys whose values may hold passwords or keys: they are never shown, not even in a message about a mistake.
const SECRET: [&str; 5] = ["database", "rpc_url", "ws_url", "l1_rpc_url", "settle_signer_url"];

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The file.
    File,
    /// The environment, or `.env`.
    Environment,
    /// The command line.
    Flag,
}

/// What the command line and the environment set, by clap's ids.
pub(crate) type Overrides = HashMap<String, Origin>;

/// Reads from clap which flags and variables of the command were given.
pub(crate) fn overrides(matches: &ArgMatches) -> Overrides {
    let mut matches = matches;
    while let Some((_, deeper)) = matches.subcommand() {
        matches = deeper;
    }
    let ids = matches.ids().map(|id| id.as_str());
    ids.filter_map(|id| {
        let origin = match matches.value_source(id)? {
            ValueSource::CommandLine => Origin::Flag,
            ValueSource::EnvVariable => Origin::Environment,
            _ => return None,
        };
        Some((id.to_owned(), origin))
    })
    .collect()
}

/// The settings that count.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The server's.
    pub config: server::Config,
    /// The nodes, and how they are asked.
    pub node: NodeSettings,
    /// Settling on L1.
    pub settle: SettleArgs,
    /// Where each comes from. Keys of a section are `section.key`.
    pub origins: BTreeMap<String, Origin>,
}

/// Whether a server can know where the deposits of its batches begin.
///
/// # Errors
/// If the first block is not the chain's first, and nothing is said; or if the chain has no bridge.
pub(crate) fn check_bridge(config: &server::Config, chain: &ChainConfig) -> anyhow::Result<()> {
    let id = chain.chain_id;
    match (chain.bridge, config.deposits_start) {
        (true, None) if config.first_block > 1 => bail!(
            "chain {id} has a bridge, and block {} is not its first: set deposits_start (--deposits-start) to the link of \
             the chain of deposits before that block",
            config.first_block
        ),
        (false, Some(_)) => bail!("chain {id} has no bridge: deposits_start is of no use"),
        _ => Ok(()),
    }
}

/// What the server will never settle because it makes no such proofs, if so.
pub(crate) fn never_settled(settings: &Settings) -> Option<String> {
    let (config, wanted) = (&settings.config, ProofKind::from(settings.settle.settle_proof_kind));
    let made =
        config.kind == wanted || config.folding().iter().any(|step| step.into.kind == wanted);
    (settings.settle.settle_rollup.is_some() && !made).then(|| {
        format!(
            "settle_proof_kind is {wanted}, and this server makes no such proofs: nothing new will be settled (see groth16, aggregate, kind)"
        )
    })
}

impl Settings {
    /// Puts together what flags, environment, file and defaults say.
    ///
    /// # Errors
    /// Names the file and every mistake in it. What does not fit together is for [`server::Config::check`].
    pub(crate) fn new(args: &Server, overrides: &Overrides) -> anyhow::Result<Self> {
        let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let mut values = defaults(args)?;
        let mut origins: BTreeMap<_, _> =
            paths(&values).into_iter().map(|key| (key, Origin::Default)).collect();
        // A flag has the name of the key that it sets.
        for (flag, origin) in overrides {
            if values.contains_key(flag) {
                origins.insert(flag.clone(), *origin);
            }
        }
        for (key, value) in file {
            if overrides.contains_key(&key) {
                continue;
            }
            match (values.get_mut(&key), value) {
                (Some(Value::Object(section)), Value::Object(inner)) => {
                    for (name, value) in inner {
                        origins.insert(format!("{key}.{name}"), Origin::File);
                        section.insert(name, value);
                    }
                }
                (_, value) => {
                    origins.insert(key.clone(), Origin::File);
                    values.insert(key, value);
                }
            }
        }
        let groups = Groups::new()?;
        let (node, rest) = values.into_iter().partition(|(key, _)| groups.node.contains_key(key));
        let (settle, server): (_, Map<_, _>) =
            Map::into_iter(rest).partition(|(key, _)| groups.settle.contains_key(key));
        let unfit = "settings do not fit together; see `l2-prover config check`";
        let node = serde_json::from_value(Value::Object(node)).context(unfit)?;
        let settle = serde_json::from_value(Value::Object(settle)).context(unfit)?;
        let mut config: server::Config =
            serde_json::from_value(Value::Object(server)).context(unfit)?;
        if origins.get("heartbeat") != Some(&Origin::File) {
            config.heartbeat = heartbeat_for(config.lease);
        }
        Ok(Self { config, node, settle, origins })
    }

    /// The values to show: without passwords and keys.
    pub(crate) fn shown(&self) -> anyhow::Result<Map<String, Value>> {
        let mut values = object(&self.config)?;
        values.extend(object(&self.node)?);
        values.extend(object(&self.settle)?);
        if let Some(url) = &self.config.database {
            values.insert("database".into(), json!(url.to_string()));
        }
        let lists = [("rpc_url", &self.node.rpc_url), ("l1_rpc_url", &self.settle.l1_rpc_url)];
        for (key, urls) in lists {
            values.insert(key.into(), urls.iter().map(|url| without_secrets(url)).collect());
        }
        let one =
            [("ws_url", &self.node.ws_url), ("settle_signer_url", &self.settle.settle_signer_url)];
        for (key, url) in one {
            values.insert(key.into(), json!(url.as_deref().map(without_secrets)));
        }
        Ok(values)
    }

    /// The secret keys whose values are shown only in part.
    fn hidden(&self) -> Vec<&'static str> {
        let partly = |url: &String| without_secrets(url) != *url;
        let hidden = [
            self.config.database.is_some(),
            self.node.rpc_url.iter().any(partly),
            self.node.ws_url.iter().any(partly),
            self.settle.l1_rpc_url.iter().any(partly),
            self.settle.settle_signer_url.iter().any(partly),
        ];
        SECRET.into_iter().zip(hidden).filter_map(|(key, hidden)| hidden.then_some(key)).collect()
    }
}

/// What counts if no file says otherwise.
fn defaults(args: &Server) -> anyhow::Result<Map<String, Value>> {
    let config = server::Config {
        listen_ip: args.listen_ip,
        listen_port: args.listen_port,
        auth: args.auth.into(),
        tls_cert: args.tls_cert.clone(),
        tls_key: args.tls_key.clone(),
        tls_client_ca: args.tls_client_ca.clone(),
        data_dir: args.data_dir.clone().unwrap_or_else(|| server::Config::default().data_dir),
        database: args.database.clone().map(server::DatabaseUrl::new),
        artifacts: args.artifacts.clone(),
        system: args.prover.system(),
        kind: args.kind.into(),
        split: args.split.split,
        split_segment_po2: args.split.split_segment_po2,
        split_least_segments: args.split.split_least_segments,
        aggregate: args.aggregate.aggregate,
        aggregate_after: args.aggregate.aggregate_after,
        groth16: args.aggregate.groth16,
        beneficiary: args.beneficiary,
        deposits_start: args.deposits_start,
        first_block: args.first_block,
        batch_blocks: args.batch_blocks,
        max_batch_cycles: args.max_batch_cycles,
        max_batch_gas: args.max_batch_gas,
        max_batch_bytes: args.max_batch_bytes,
        max_batch_age: args.max_batch_age,
        max_reorg_blocks: args.max_reorg_blocks,
        lease: args.lease,
        danger_accept_exec: args.danger_accept_exec,
        danger_accept_dev_mode: args.danger_accept_dev_mode,
        danger_listen_without_auth: args.danger_listen_without_auth,
        ..server::Config::default()
    };
    let mut values = object(&config)?;
    values.extend(object(&NodeSettings::of(args))?);
    values.extend(object(&args.settle)?);
    Ok(values)
}

/// The keys that a file may have, by whose they are.
struct Groups {
    server: Map<String, Value>,
    node: Map<String, Value>,
    settle: Map<String, Value>,
}

impl Groups {
    fn new() -> anyhow::Result<Self> {
        let server = object(&server::Config::default())?;
        let (node, settle) = (NodeSettings::default(), SettleArgs::default());
        Ok(Self { server, node: object(&node)?, settle: object(&settle)? })
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        self.server.keys().chain(self.node.keys()).chain(self.settle.keys())
    }
}

/// The keys and values of settings.
fn object(settings: &impl Serialize) -> anyhow::Result<Map<String, Value>> {
    match serde_json::to_value(settings)? {
        Value::Object(values) => Ok(values),
        _ => bail!("settings are an object"),
    }
}

/// Where the server of the settings file at `path` keeps things; every other setting is the default.
///
/// # Errors
/// Names the file and every mistake in it.
pub(crate) fn places(path: &Path) -> anyhow::Result<server::Config> {
    let mut values = read(path)?;
    values.retain(|key, _| ["data_dir", "database", "artifacts"].contains(&key.as_str()));
    Ok(serde_json::from_value(Value::Object(values))?)
}

/// What `l2-prover settle` says, and for the rest the server's settings file at `path`.
///
/// # Errors
/// Names the file and every mistake in it.
pub(crate) fn settle(
    args: &SettleArgs,
    overrides: &Overrides,
    path: Option<&Path>,
) -> anyhow::Result<SettleArgs> {
    let mut values = object(args)?;
    for (key, value) in path.map(read).transpose()?.unwrap_or_default() {
        if values.contains_key(&key) && !overrides.contains_key(&key) {
            values.insert(key, value);
        }
    }
    Ok(serde_json::from_value(Value::Object(values))?)
}

/// The keys of `values`; those of a section as `section.key`.
fn paths(values: &Map<String, Value>) -> Vec<String> {
    let one = |(key, value): (&String, &Value)| match value {
        Value::Object(section) => section.keys().map(|name| format!("{key}.{name}")).collect(),
        _ => vec![key.clone()],
    };
    values.iter().flat_map(one).collect()
}

/// The values in the file at `path`, each of which the server can read.
fn read(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {file}"))?;
    // The parser's message repeats a line, which may hold a password; its position is enough.
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        anyhow::anyhow!("{file} is no TOML: line {line}: {}", error.message())
    })?;
    let mut values = object(&table)?;
    let mut mistakes = Vec::new();
    for (old, new) in RENAMED {
        let Some(value) = values.remove(old) else { continue };
        tracing::warn!(code = "setting_renamed", old, new, "a setting has a new name");
        if values.insert(new.to_owned(), value).is_some() {
            mistakes.push(format!("{old}: that is the old name of {new}, which is set too"));
        }
    }
    mistakes.extend(self::mistakes(&values)?);
    if !mistakes.is_empty() {
        bail!("{file} cannot be used:\n  {}", mistakes.join("\n  "));
    }
    Ok(values)
}

/// All that is wrong with keys and types.
fn mistakes(values: &Map<String, Value>) -> anyhow::Result<Vec<String>> {
    let groups = Groups::new()?;
    let mut mistakes = Vec::new();
    for (key, value) in values {
        let (in_node, in_settle) = (groups.node.contains_key(key), groups.settle.contains_key(key));
        match (groups.server.get(key), value) {
            (None, _) if !in_node && !in_settle => mistakes.push(unknown(key, groups.keys(), "")),
            (Some(Value::Object(section)), Value::Object(inner)) => {
                for (name, value) in inner {
                    if section.contains_key(name) {
                        let one = json!({ key: { name: value } });
                        mistakes
                            .extend(unreadable::<server::Config>(&format!("{key}.{name}"), one));
                    } else {
                        mistakes.push(unknown(name, section.keys(), &format!("{key}.")));
                    }
                }
            }
            (_, value) => {
                let one = json!({ key: value });
                mistakes.extend(match (in_node, in_settle) {
                    (true, _) => unreadable::<NodeSettings>(key, one),
                    (_, true) => unreadable::<SettleArgs>(key, one),
                    _ => unreadable::<server::Config>(key, one),
                });
            }
        }
    }
    Ok(mistakes)
}

/// What is wrong with `one`, an object with the one key, as part of `T`.
fn unreadable<T: DeserializeOwned>(key: &str, one: Value) -> Option<String> {
    let error = serde_json::from_value::<T>(one).err()?.to_string();
    let error = match key {
        "rpc_url" | "l1_rpc_url" => "must be a text, or a list of texts".to_owned(),
        _ if SECRET.contains(&key) => "must be a text".to_owned(),
        _ => error,
    };
    Some(format!("{key}: {error}"))
}

/// Says that there is no such key, and names one that is spelled nearly so, if there is one.
fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a String>, section: &str) -> String {
    let distance = |name: &String| strsim::damerau_levenshtein(name, key);
    let nearest = known.map(|name| (distance(name), name)).min();
    match nearest.filter(|(distance, _)| distance * 3 <= key.len()) {
        Some((_, name)) => {
            format!("{section}{key}: there is no such key; did you mean {section}{name}?")
        }
        None => format!(
            "{section}{key}: there is no such key; `l2-prover config check --rpc-url URL` shows all of them"
        ),
    }
}

/// A URL as far as it can be shown: user, password, path and query may be keys.
pub(crate) fn without_secrets(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(parsed) => {
            let origin = parsed.origin().ascii_serialization();
            let bare = [origin.clone(), format!("{origin}/")].contains(&url.to_owned());
            if bare { origin } else { format!("{origin}/…") }
        }
        Err(_) => "(no address)".to_owned(),
    }
}

/// The settings that count, and where they come from.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    event: &'static str,
    config: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
    file: Option<PathBuf>,
    #[serde(skip)]
    hidden: Vec<&'static str>,
}

impl Checked {
    /// What is shown of `settings`.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub(crate) fn new(settings: &Settings, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let (config, origins) = (settings.shown()?, settings.origins.clone());
        Ok(Self { event: "checked", config, origins, file, hidden: settings.hidden() })
    }

    fn line(
        &self,
        f: &mut fmt::Formatter<'_>,
        section: &str,
        key: &str,
        value: &Value,
    ) -> fmt::Result {
        let origin = match self.origins.get(&format!("{section}{key}")) {
            Some(Origin::File) => "file",
            Some(Origin::Environment) => "environment",
            Some(Origin::Flag) => "flag",
            Some(Origin::Default) | None => "default",
        };
        match value {
            Value::Null => writeln!(f, "# {key} is not set"),
            // What is shown is not what counts: in a file it would be wrong.
            value if self.hidden.contains(&key) => {
                writeln!(f, "# {key} is set ({origin}) and shown in part: {value}")
            }
            // JSON's texts, numbers and truth values are TOML's too.
            value => writeln!(f, "{:<44} # {origin}", format!("{key} = {value}")),
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in self.config.iter().filter(|(_, value)| !value.is_object()) {
            self.line(f, "", key, value)?;
        }
        for (section, values) in self.config.iter() {
            let Value::Object(values) = values else { continue };
            writeln!(f, "\n[{section}]")?;
            for (key, value) in values {
                self.line(f, &format!("{section}."), key, value)?;
            }
        }
        f.write_str("# these settings can be used")
    }
}
