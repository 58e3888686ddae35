//! The settings of `l2-prover server`: flags win over environment, environment over the file, the file over the defaults.
//!
//! * The file has the keys of [`server::Config`], and `rpc_url` and `chain`.
//! * Every mistake in it is named, not only the first.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::commands::server::{Server, heartbeat_for};

/// Flags, by their clap ids, and the keys that they set.
const FLAGS: [(&str, &str); 25] = [
    ("listen_ip", "listen_ip"),
    ("listen_port", "listen_port"),
    ("auth", "auth"),
    ("tls_cert", "tls_cert"),
    ("tls_key", "tls_key"),
    ("tls_client_ca", "tls_client_ca"),
    ("rpc_url", "rpc_url"),
    ("chain", "chain"),
    ("first_block", "start_block"),
    ("data_dir", "data_dir"),
    ("database", "database"),
    ("artifacts", "artifacts"),
    ("prover", "system"),
    ("kind", "kind"),
    ("beneficiary", "beneficiary"),
    ("batch_blocks", "batch_blocks"),
    ("max_batch_cycles", "max_batch_cycles"),
    ("max_batch_gas", "max_batch_gas"),
    ("max_batch_bytes", "max_batch_bytes"),
    ("max_batch_age", "max_batch_age"),
    ("max_reorg_blocks", "max_reorg_blocks"),
    ("lease", "lease"),
    ("danger_accept_exec", "danger_accept_exec_proofs"),
    ("danger_accept_dev_mode", "danger_accept_dev_mode_proofs"),
    ("danger_listen_without_auth", "danger_listen_without_auth"),
];

/// Keys of the file that are no setting of the server's own.
const NODE: [&str; 2] = ["rpc_url", "chain"];

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
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
pub type Overrides = HashMap<String, Origin>;

/// Reads from clap which flags and variables of the command were given.
pub fn overrides(matches: &ArgMatches) -> Overrides {
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
pub struct Settings {
    /// The server's.
    pub config: server::Config,
    /// The nodes, the first one that works first.
    pub rpc_url: Vec<String>,
    /// The node's chain.
    pub chain: String,
    /// Where each comes from. Keys of a section are `section.key`.
    pub origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// Puts together what flags, environment, file and defaults say.
    ///
    /// # Errors
    /// Names the file and every mistake in it. What does not fit together is for [`server::Config::check`].
    pub fn new(args: &Server, overrides: &Overrides) -> anyhow::Result<Self> {
        let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let mut values = defaults(args)?;
        let mut origins: BTreeMap<_, _> =
            paths(&values).into_iter().map(|key| (key, Origin::Default)).collect();
        let flags = FLAGS.iter().filter_map(|(id, key)| Some((*key, *overrides.get(*id)?)));
        for (key, origin) in flags.clone() {
            origins.insert(key.to_owned(), origin);
        }
        for (key, value) in file {
            if flags.clone().any(|(flag, _)| flag == key) {
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
        let text = |value: Option<Value>| value.and_then(|value| Some(value.as_str()?.to_owned()));
        let rpc_url = match values.remove("rpc_url") {
            Some(Value::Array(urls)) => {
                urls.into_iter().filter_map(|url| text(Some(url))).collect()
            }
            url => text(url).into_iter().collect(),
        };
        let chain = text(values.remove("chain"));
        let mut config: server::Config = serde_json::from_value(Value::Object(values))
            .context("settings do not fit together; see `l2-prover config check`")?;
        if origins.get("heartbeat") != Some(&Origin::File) {
            config.heartbeat = heartbeat_for(config.lease);
        }
        Ok(Self { config, rpc_url, chain: chain.unwrap_or_default(), origins })
    }

    /// The values to show: without passwords and keys.
    pub fn shown(&self) -> anyhow::Result<Map<String, Value>> {
        let Value::Object(mut values) = serde_json::to_value(&self.config)? else {
            bail!("settings are an object")
        };
        if let Some(url) = &self.config.database {
            values.insert("database".into(), json!(url.to_string()));
        }
        values.insert(
            "rpc_url".into(),
            json!(self.rpc_url.iter().map(|url| without_secrets(url)).collect::<Vec<_>>()),
        );
        values.insert("chain".into(), json!(self.chain));
        Ok(values)
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
        data_dir: args.data_dir.clone().unwrap_or_else(|| crate::commands::server::DATA_DIR.into()),
        database: args.database.clone().map(server::DatabaseUrl::new),
        artifacts: args.artifacts.clone(),
        system: args.prover.system(),
        kind: args.kind.into(),
        beneficiary: args.beneficiary,
        start_block: args.first_block,
        batch_blocks: args.batch_blocks,
        max_batch_cycles: args.max_batch_cycles,
        max_batch_gas: args.max_batch_gas,
        max_batch_bytes: args.max_batch_bytes,
        max_batch_age: args.max_batch_age,
        max_reorg_blocks: args.max_reorg_blocks,
        lease: args.lease,
        danger_accept_exec_proofs: args.danger_accept_exec,
        danger_accept_dev_mode_proofs: args.danger_accept_dev_mode,
        danger_listen_without_auth: args.danger_listen_without_auth,
        ..server::Config::default()
    };
    let Value::Object(mut values) = serde_json::to_value(config)? else {
        bail!("settings are an object")
    };
    values.insert("rpc_url".into(), json!(args.rpc_url));
    values.insert("chain".into(), json!(args.chain.to_string()));
    Ok(values)
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
    let Value::Object(values) = serde_json::to_value(table)? else { bail!("{file} is no table") };
    let mistakes = mistakes(&values)?;
    if !mistakes.is_empty() {
        bail!("{file} cannot be used:\n  {}", mistakes.join("\n  "));
    }
    Ok(values)
}

/// All that is wrong with keys and types.
fn mistakes(values: &Map<String, Value>) -> anyhow::Result<Vec<String>> {
    let Value::Object(mut known) = serde_json::to_value(server::Config::default())? else {
        bail!("settings are an object")
    };
    known.extend(NODE.map(|key| (key.to_owned(), Value::Null)));
    let mut mistakes = Vec::new();
    for (key, value) in values {
        match (known.get(key), value) {
            (None, _) => mistakes.push(unknown(key, known.keys(), "")),
            (Some(Value::Object(section)), Value::Object(inner)) => {
                for (name, value) in inner {
                    if section.contains_key(name) {
                        let one = json!({ key: { name: value } });
                        mistakes.extend(unreadable(&format!("{key}.{name}"), one));
                    } else {
                        mistakes.push(unknown(name, section.keys(), &format!("{key}.")));
                    }
                }
            }
            (Some(_), value) if NODE.contains(&key.as_str()) => {
                let texts = |values: &Vec<Value>| values.iter().all(Value::is_string);
                let several = key == "rpc_url" && value.as_array().is_some_and(texts);
                if !value.is_string() && !several {
                    mistakes.push(format!("{key}: must be a text"));
                }
            }
            (Some(_), value) => mistakes.extend(unreadable(key, json!({ key: value }))),
        }
    }
    Ok(mistakes)
}

fn unreadable(key: &str, one: Value) -> Option<String> {
    let error = serde_json::from_value::<server::Config>(one).err()?;
    // An address may hold a password, and the message repeats the value.
    let secret = key == "database";
    let error = if secret { "must be a text".to_owned() } else { error.to_string() };
    Some(format!("{key}: {error}"))
}

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a String>, section: &str) -> String {
    let nearest = known.min_by_key(|name| strsim::damerau_levenshtein(name, key));
    let nearest = nearest.map_or("", String::as_str);
    format!("{section}{key}: there is no such key; the nearest is {section}{nearest}")
}

/// A URL as far as it can be shown: user, password, path and query may be keys.
pub fn without_secrets(url: &str) -> String {
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
pub struct Checked {
    event: &'static str,
    config: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
    file: Option<PathBuf>,
}

impl Checked {
    /// What is shown of `settings`.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn new(settings: &Settings, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let (config, origins) = (settings.shown()?, settings.origins.clone());
        Ok(Self { event: "checked", config, origins, file })
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
