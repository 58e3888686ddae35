//! The Bonsai REST dialect, as far as it is needed: register a program, submit an input, begin a session, ask about it, fetch its
//! receipt, stop it.
//!
//! | what | how |
//! |---|---|
//! | program | `GET /images/upload/ID`: 204 if it is known, else `{"url"}`, to which the program binary is `PUT` |
//! | input | `GET /inputs/upload`: `{"url","uuid"}`; `PUT` to the URL |
//! | session | `POST /sessions/create` with `{"img","input","assumptions":[],"execute_only":false}` and a kind: `{"uuid"}` |
//! | state | `GET /sessions/status/ID`: `{"status","state","receipt_url","error_msg"}` |
//! | receipt | `GET` of `receipt_url`; or `GET /receipts/ID`: `{"url"}`, and `GET` of that |
//! | stop | `GET /sessions/stop/ID` |
//!
//! * Of a URL in an answer only path and query are used, on our own address: engines build them from the header `Host` and know
//!   nothing of a proxy before them.
//! * An id goes into a path only if it has none but letters, digits, `-` and `_`.

use std::time::Duration;

use bytes::Bytes;
use client::Progress;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::config::Config;
use crate::error::Trouble;
use crate::http::{Answer, Body, Http, Question};

/// The longest answer to a short question, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// The longest id.
const MAX_ID: usize = 128;
/// How long an engine may take to stop a session: nothing depends on it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// An engine, spoken to in the dialect.
#[derive(Debug)]
pub(crate) struct Dialect<'c> {
    http: Http<'c>,
    config: &'c Config,
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being worked on; the engine's word for how far it is, if it has one.
    Running(Option<String>),
    /// It is proven; where the engine says that the receipt is.
    Proven(Option<String>),
    /// It came to nothing.
    Ended { status: String, text: String },
}

#[derive(Deserialize)]
struct Upload {
    url: String,
    #[serde(default)]
    uuid: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    uuid: String,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    receipt_url: Option<String>,
    #[serde(default)]
    error_msg: Option<String>,
}

impl<'c> Dialect<'c> {
    pub(crate) fn new(config: &'c Config) -> Result<Self, reqwest::Error> {
        Ok(Self { http: Http::new(config)?, config })
    }

    /// An id goes into paths, logs and errors.
    fn check_id(&self, what: &str, id: &str) -> Result<(), Trouble> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let detail = match (1..=MAX_ID).contains(&id.len()) && id.bytes().all(plain) {
            true if self.http.quote(id) == id => return Ok(()),
            true => "an id that holds our key",
            false => {
                "an id that is empty, too long or has other characters than letters, digits, - and _"
            }
        };
        Err(Trouble::Malformed { what: what.to_owned(), detail: detail.to_owned() })
    }

    /// Whether the engine has the program with this image id.
    pub(crate) async fn knows_program(&self, image: &str) -> Result<bool, Trouble> {
        Ok(self.place_for_program(image).await?.is_none())
    }

    /// Sends the program, unless the engine has it.
    pub(crate) async fn register(&self, image: &str, program: Bytes) -> Result<(), Trouble> {
        let Some(upload) = self.place_for_program(image).await? else { return Ok(()) };
        let what = format!("the program, {} bytes", program.len());
        self.put(&what, &upload.url, program).await
    }

    /// Sends an input. Returns the engine's id of it.
    pub(crate) async fn submit(&self, input: Bytes) -> Result<String, Trouble> {
        let what = "where an input goes";
        let upload: Upload = json(what, &self.get(what, self.at("inputs/upload")).await?)?;
        let uuid = upload.uuid.unwrap_or_default();
        self.check_id(what, &uuid)?;
        let what = format!("the input, {} bytes", input.len());
        self.put(&what, &upload.url, input).await?;
        Ok(uuid)
    }

    /// Begins a session. Returns its id.
    pub(crate) async fn create(&self, image: &str, input: &str) -> Result<String, Trouble> {
        let what = "a new session";
        let wanted = serde_json::json!({
            "img": image,
            "input": input,
            "assumptions": [],
            "execute_only": false,
            "exec_cycle_limit": null,
            // Not of the dialect: Hierophant makes a composite receipt without it, and the others do not look at it.
            "proof_mode": "succinct",
        });
        let question = Question {
            what,
            method: Method::POST,
            url: self.at("sessions/create"),
            body: Body::Json(wanted.to_string().into()),
            longest: MAX_ANSWER,
            within: self.config.answer_timeout,
        };
        let created: Created = json(what, &self.http.ask(question).await?)?;
        self.check_id(what, &created.uuid)?;
        Ok(created.uuid)
    }

    /// Where a session stands.
    pub(crate) async fn state(&self, session: &str) -> Result<State, Trouble> {
        let what = format!("where session {session} stands");
        let url = self.at(&format!("sessions/status/{session}"));
        let status: Status = json(&what, &self.get(&what, url).await?)?;
        match status.status.as_str() {
            "RUNNING" => Ok(State::Running(status.state.map(|state| self.http.quote(&state)))),
            "SUCCEEDED" => Ok(State::Proven(status.receipt_url)),
            "FAILED" | "TIMED_OUT" | "ABORTED" => {
                let text = self.http.quote(status.error_msg.as_deref().unwrap_or("without a word"));
                Ok(State::Ended { status: status.status, text })
            }
            other => {
                let detail = format!("unknown status {:?}", self.http.quote(other));
                Err(Trouble::Malformed { what, detail })
            }
        }
    }

    /// The receipt's bytes, from the place that the engine named, or else by the session's id.
    pub(crate) async fn receipt(
        &self,
        session: &str,
        place: Option<&str>,
    ) -> Result<Vec<u8>, Trouble> {
        let place = match place {
            Some(place) => place.to_owned(),
            None => {
                let what = format!("where the receipt of session {session} is");
                let url = self.at(&format!("receipts/{session}"));
                json::<Upload>(&what, &self.get(&what, url).await?)?.url
            }
        };
        let what = format!("the receipt of session {session}");
        let question = Question {
            what: &what,
            method: Method::GET,
            url: self.ours(&what, &place)?,
            body: Body::Nothing,
            longest: self.config.max_receipt_bytes,
            within: self.config.transfer_timeout,
        };
        Ok(self.http.ask(question).await?.body)
    }

    /// Asks the engine to stop a session. Some cannot; that changes nothing for us.
    pub(crate) async fn stop(&self, session: &str) -> Result<(), Trouble> {
        let question = Question {
            what: "to stop a session",
            method: Method::GET,
            url: self.at(&format!("sessions/stop/{session}")),
            body: Body::Nothing,
            longest: MAX_ANSWER,
            within: STOP_TIMEOUT,
        };
        let answer = self.http.ask(question).await.map(drop);
        match &answer {
            Ok(()) => tracing::info!(session, "session stopped"),
            Err(error) => tracing::info!(session, %error, "session cannot be stopped"),
        }
        answer
    }

    /// Where the program may be sent, unless the engine has it.
    async fn place_for_program(&self, image: &str) -> Result<Option<Upload>, Trouble> {
        let what = "whether it has the program";
        let answer = self.get(what, self.at(&format!("images/upload/{image}"))).await?;
        match answer.status {
            204 => Ok(None),
            _ => json(what, &answer).map(Some),
        }
    }

    async fn get(&self, what: &str, url: Url) -> Result<Answer, Trouble> {
        let within = self.config.answer_timeout;
        let (method, body, longest) = (Method::GET, Body::Nothing, MAX_ANSWER);
        self.http.ask(Question { what, method, url, body, longest, within }).await
    }

    async fn put(&self, what: &str, place: &str, bytes: Bytes) -> Result<(), Trouble> {
        let question = Question {
            what,
            method: Method::PUT,
            url: self.ours(what, place)?,
            body: Body::Bytes(bytes),
            longest: MAX_ANSWER,
            within: self.config.transfer_timeout,
        };
        self.http.ask(question).await.map(drop)
    }

    /// A path of the dialect at the engine's address.
    fn at(&self, path: &str) -> Url {
        let mut url = self.config.url.clone();
        let base = url.path().trim_end_matches('/');
        url.set_path(&format!("{base}/{path}"));
        url
    }

    /// What a URL of the engine's means at the engine's own address.
    fn ours(&self, what: &str, place: &str) -> Result<Url, Trouble> {
        let ours = &self.config.url;
        let theirs = ours.join(place).map_err(|error| Trouble::Malformed {
            what: what.to_owned(),
            detail: format!("a URL that is none: {error}"),
        })?;
        let base = ours.path().trim_end_matches('/');
        let inside = theirs.path().strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
        let mut url = match inside {
            true => {
                let mut url = ours.clone();
                url.set_path(theirs.path());
                url
            }
            // A proxy before the engine adds a path of which the engine does not know.
            false => self.at(theirs.path().trim_start_matches('/')),
        };
        // Dots in it could lead out of what the operator named.
        if !url.path().strip_prefix(base).is_some_and(|rest| rest.starts_with('/')) {
            let detail = "a URL that leads out of the engine's path".to_owned();
            return Err(Trouble::Malformed { what: what.to_owned(), detail });
        }
        url.set_query(theirs.query());
        Ok(url)
    }
}

/// What the engine's word for how far it is means to us.
pub(crate) fn progress(state: Option<&str>) -> Progress {
    let Some(state) = state else { return Progress::Other };
    let (name, counts) = state.split_once(':').unwrap_or((state, ""));
    let counts = counts.split_once('/').and_then(|(done, total)| {
        Some((done.trim().parse::<u64>().ok()?, total.trim().parse::<u64>().ok()?))
    });
    match (name.trim(), counts) {
        ("ProveSegments", Some((done, total))) => Progress::Segment { done, total },
        ("RecursionJoin", Some((done, total))) => Progress::Joining { done, total },
        ("Resolve" | "Finalize", _) => Progress::Compressing,
        _ => Progress::Other,
    }
}

fn json<T: for<'de> Deserialize<'de>>(what: &str, answer: &Answer) -> Result<T, Trouble> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        // Position and kind of the fault: the text may hold what the engine wrote, a signed URL for example.
        let detail = format!("{:?} error in JSON at column {}", error.classify(), error.column());
        Trouble::Malformed { what: what.to_owned(), detail }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_the_engines_is_used_at_its_own_address_only() {
        let ours = |base: &str, place: &str| {
            let config = Config::new(base.parse().unwrap(), "sessions".into());
            let url = Dialect::new(&config).unwrap().ours("it", place).unwrap();
            url.to_string()
        };
        for (base, place, url) in [
            ("https://a:1", "http://b:2/inputs/upload/x", "https://a:1/inputs/upload/x"),
            ("https://a:1/", "http://b:2/x?signed=y", "https://a:1/x?signed=y"),
            ("https://a:1/engine", "http://b/inputs/x", "https://a:1/engine/inputs/x"),
            ("https://a:1/engine/", "http://b/engine/x", "https://a:1/engine/x"),
            ("https://a:1/engine", "http://b/engines/x", "https://a:1/engine/engines/x"),
            ("https://a:1/engine", "http://b/../../x", "https://a:1/engine/x"),
            ("https://a:1", "//b/x", "https://a:1/x"),
            ("https://a:1", "http://me:word@b/x", "https://a:1/x"),
            ("https://a:1", "file:///etc/passwd", "https://a:1/etc/passwd"),
        ] {
            assert_eq!(ours(base, place), url, "{base} {place}");
        }
    }

    #[test]
    fn only_plain_ids_are_put_into_a_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "AbCd0123456789secret").unwrap();
        let mut config = Config::new("https://a:1".parse().unwrap(), "sessions".into());
        config.key_file = Some(file.path().to_owned());
        let dialect = Dialect::new(&config).unwrap();
        for id in ["0195c5a2-7f3e-7ac1-b0f5-3f0d6f2d9a11", "a_B-9"] {
            dialect.check_id("it", id).unwrap();
        }
        let long = "x".repeat(MAX_ID + 1);
        let key = ["AbCd0123456789secret", "x-ABCD0123456789SECRET", "0123456789secret"];
        let others = ["", "..", "a/b", "a?b", "a%2fb", "a b", "ü", "a\n", &long];
        for id in others.into_iter().chain(key) {
            let refused = dialect.check_id("it", id);
            assert!(matches!(refused, Err(Trouble::Malformed { .. })), "{id:?}");
        }
    }

    #[test]
    fn an_engines_words_are_our_phases() {
        for (state, phase) in [
            (Some("ProveSegments: 3/7"), Progress::Segment { done: 3, total: 7 }),
            (Some("RecursionJoin: 1/6"), Progress::Joining { done: 1, total: 6 }),
            (Some("Finalize"), Progress::Compressing),
            (Some("ProveSegments: many"), Progress::Other),
            (Some("init"), Progress::Other),
            (None, Progress::Other),
        ] {
            assert_eq!(progress(state), phase, "{state:?}");
        }
    }
}
