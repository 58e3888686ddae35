//! How an engine is used, and what is refused from the start.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use client::ProveError;
use reqwest::Url;

use crate::error::{EngineError, Trouble};

/// How an engine is used.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its REST API is. A path in front of that of the dialect stays.
    pub url: Url,
    /// A file with the key that it asks for. It is read for each request, so that a key can be changed while a proof is made.
    pub key_file: Option<PathBuf>,
    /// Talks to an engine on another machine in the clear: whoever is on the way reads the key and the inputs, and can
    /// keep proofs back. False proofs are refused either way.
    pub danger_plain_http: bool,
    /// The folder where session ids are kept.
    pub sessions: PathBuf,
    /// A receipt that is longer is not read to its end.
    pub max_receipt_bytes: usize,
    /// How often the engine is asked in the beginning, and after each step that it makes.
    pub poll_min: Duration,
    /// How often it is asked when nothing happens for long.
    pub poll_max: Duration,
    /// A session whose state stays the same for so long is given up. r0vm's cluster shows no states: there it is the time that a
    /// whole session may take.
    pub progress_deadline: Duration,
    /// How long an engine may be unreachable or too busy before that is an error. Its session is kept even then.
    pub patience: Duration,
    /// How many sessions are made of one input, the first one included.
    pub max_sessions: u32,
    /// A session of another input that nobody has asked about for so long was left behind by a prover that was killed: it is
    /// stopped when the next proof is made.
    pub abandoned_after: Duration,
    /// How long the engine may take for an answer to a short question.
    pub answer_timeout: Duration,
    /// How long an upload or the download of a receipt may take.
    pub transfer_timeout: Duration,
}

impl Config {
    /// The defaults, for the engine at `url` and sessions in the folder `sessions`.
    pub fn new(url: Url, sessions: PathBuf) -> Self {
        Self {
            url,
            key_file: None,
            danger_plain_http: false,
            sessions,
            max_receipt_bytes: 16 << 20,
            poll_min: Duration::from_secs(1),
            poll_max: Duration::from_secs(15),
            progress_deadline: Duration::from_secs(3600),
            patience: Duration::from_secs(600),
            max_sessions: 3,
            abandoned_after: Duration::from_secs(900),
            answer_timeout: Duration::from_secs(60),
            transfer_timeout: Duration::from_secs(900),
        }
    }

    /// The engine's name in errors and logs: scheme, host and port.
    pub(crate) fn engine(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The failure of a proof through this engine.
    pub(crate) fn failed(&self, trouble: Trouble) -> ProveError {
        let error = EngineError { engine: self.engine(), trouble };
        match &error.trouble {
            Trouble::Stuck { .. } => ProveError::TimedOut(error.to_string()),
            Trouble::Ended { .. } | Trouble::Receipt { .. } => ProveError::Failed(error.into()),
            _ => ProveError::Unavailable(error.into()),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SetupError> {
        let url = &self.url;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(SetupError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SetupError::Password);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(SetupError::Query);
        }
        if url.scheme() == "http" && !is_loopback(url) && !self.danger_plain_http {
            return Err(SetupError::PlainHttp { engine: self.engine() });
        }
        let limits = [
            ("max_sessions", self.max_sessions == 0),
            ("max_receipt_bytes", self.max_receipt_bytes == 0),
            ("poll_min", self.poll_min.is_zero()),
            ("poll_max", self.poll_max.is_zero()),
            ("progress_deadline", self.progress_deadline.is_zero()),
            ("answer_timeout", self.answer_timeout.is_zero()),
            ("transfer_timeout", self.transfer_timeout.is_zero()),
        ];
        match limits.iter().find(|(_, zero)| *zero) {
            Some((name, _)) => Err(SetupError::Zero(name)),
            None => Ok(()),
        }
    }
}

/// Whether the URL names this machine.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    })
}

/// Why an engine cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The URL is not of HTTP.
    #[error(
        "the engine's URL is no http:// or https:// URL with a host: write for example http://127.0.0.1:8720"
    )]
    Scheme,
    /// The URL holds a password, which would show in a list of processes.
    #[error(
        "the engine's URL holds a user name or a password: put the engine's key into a file and name that"
    )]
    Password,
    /// The URL holds more than an address and a path.
    #[error("the engine's URL holds a query or a fragment: leave out what follows `?` and `#`")]
    Query,
    /// The engine is on another machine and spoken to in the clear.
    #[error(
        "engine {engine} is on another machine and has no TLS, so that whoever is on the way reads the key and the inputs: put a \
         proxy with TLS before it and use https://, or accept that with --danger-plain-http"
    )]
    PlainHttp {
        /// The engine.
        engine: String,
    },
    /// A limit of nothing.
    #[error("{0} is 0, so that nothing could be proven: set it to more")]
    Zero(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_elsewhere_needs_tls_and_no_url_holds_a_secret() {
        let check = |url: &str, danger_plain_http| {
            let config = Config::new(url.parse().unwrap(), "sessions".into());
            let checked = Config { danger_plain_http, ..config }.check();
            checked.map_err(|error| error.to_string().chars().take(40).collect::<String>())
        };
        for near in ["http://127.0.0.1:8720", "http://[::1]:8720", "http://localhost:1/engine/"] {
            assert_eq!(check(near, false), Ok(()), "{near}");
        }
        assert_eq!(check("https://engine.example", false), Ok(()));
        assert_eq!(check("http://engine.example", true), Ok(()));
        for (far, engine) in [
            ("http://engine.example", "engine http://engine.example is on anoth"),
            ("http://localhost.example", "engine http://localhost.example is on an"),
            ("http://10.0.0.1", "engine http://10.0.0.1 is on another mac"),
        ] {
            assert_eq!(check(far, false), Err(engine.to_owned()), "{far}");
        }
        for (wrong, words) in [
            ("https://me:word@engine.example", "user name or a password"),
            ("https://me@engine.example", "user name or a password"),
            ("https://engine.example/?key=word", "a query or a fragment"),
            ("ftp://engine.example", "no http://"),
        ] {
            let config = Config::new(wrong.parse().unwrap(), "sessions".into());
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("word@"), "{wrong}: {error}");
        }
    }
}
