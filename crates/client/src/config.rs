//! The client's settings.

use crate::Access;
use protocol::messages::MOST_CHARACTERS;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// Settings of a Prover Client. Every key may be left out; an unknown key is an error. Durations are written as `"30s"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Prover Servers to work for in turn, each as `http://HOST:PORT` or `https://HOST:PORT`.
    pub servers: Vec<String>,
    /// What operators call this client, at most 64 characters. Left out: the machine's name.
    pub name: Option<String>,
    /// What all of them are shown.
    pub access: Access,
    /// Folder of the client's id and of proofs that the server has not acknowledged. Made if it is missing; one client at
    /// a time may use it.
    pub data_dir: PathBuf,
    /// How long a request for work may be held open by the server.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
    /// The longest pause between attempts to reach a server.
    #[serde(with = "humantime_serde")]
    pub max_back_off: Duration,
    /// A server that is silent for so long is not waited for any more: another one is tried meanwhile.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// An attempt is given up if the server is silent for so long.
    #[serde(with = "humantime_serde")]
    pub silence: Duration,
    /// A proof whose job no server knows is offered again for so long, because a server that was rebuilt learns its jobs anew. After
    /// that it is put aside.
    #[serde(with = "humantime_serde")]
    pub keep_unknown: Duration,
    /// After so many failures of the prover in a row the client asks for no more work.
    pub broken_failures: u32,
    /// It then waits so long before a self-test, and longer each time that this is not enough.
    #[serde(with = "humantime_serde")]
    pub broken_pause: Duration,
    /// The largest input to accept, in bytes.
    pub max_input_bytes: u64,
    /// The client asks for no work while the disk of its folder has less free space than this, in bytes.
    pub min_free_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: vec!["http://127.0.0.1:4000".into()],
            name: None,
            access: Access::default(),
            data_dir: "data/client".into(),
            wait: Duration::from_secs(20),
            max_back_off: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            silence: Duration::from_secs(60),
            keep_unknown: Duration::from_secs(7 * 24 * 3600),
            broken_failures: 3,
            broken_pause: Duration::from_secs(60),
            max_input_bytes: 1 << 30,
            min_free_bytes: 256 << 20,
        }
    }
}

/// A client's name has at most so many characters.
const MAX_NAME: usize = MOST_CHARACTERS;

/// Whether a client may have this name.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// What this machine is called, as Linux says: as much of it as may be a client's name.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = protocol::messages::bounded(name.trim());
    if name.is_empty() { "unknown".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_of_one_line() {
        assert!(is_name(&host_name()));
        assert!(is_name("rack 7, GPU 2 \u{fc}"));
        for name in ["", "a\nb", "\u{1b}[31m", &"x".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_misspelt_key_is_named_and_the_defaults_survive_a_round_trip() {
        let error = serde_json::from_str::<Config>(r#"{"sever": ""}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `sever`"), "{error}");
        let text = serde_json::to_string(&Config::default()).unwrap();
        assert!(text.contains(r#""wait":"20s""#), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), Config::default());
    }
}
