//! What was said to nodes and what they answered, in files: for bug reports, and for tests that repeat it.
//!
//! A folder has one file for each node, named by its scheme, host and port, with one [`Exchange`] as JSON on each line. What a
//! node's URL holds beside these is removed from the answers: it may be a key.

use crate::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// No more than this is recorded of a node: a recording that somebody forgot must not fill the disk.
const LONGEST: u64 = 4 << 30;
/// The code with which a replayed node says that something was not recorded.
pub const NOT_RECORDED: i64 = -32_098;
/// How a file of exchanges ends.
const EXTENSION: &str = "jsonl";

/// One request to a node, and what came back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Exchange {
    /// The call, or the list of calls.
    pub request: Value,
    /// What came back.
    pub answer: Answer,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
}

/// What came back from a node.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A status and a body.
    Http {
        /// The status.
        status: u16,
        /// What its header `Retry-After` asked for, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// The body, unpacked.
        body: Body,
    },
    /// No connection could be made.
    Away,
    /// The connection ended before the answer did, or the answer could not be unpacked.
    Cut,
    /// The answer was longer than allowed.
    TooLong,
    /// No answer came in time.
    Silent,
}

/// An answer's body.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// JSON.
    Json(Value),
    /// Something else; what is not UTF-8 in it is replaced.
    Text(String),
}

/// A folder into which exchanges are written. Clones write into the same one.
#[derive(Clone, Debug)]
pub struct Recording(Arc<PathBuf>);

impl PartialEq for Recording {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Recording {}

impl Recording {
    /// Records into the folder at `path`, which is made if need be. What was recorded there before stays.
    ///
    /// # Errors
    /// [`Error::Record`] if the folder cannot be made.
    pub fn into_folder(path: &Path) -> Result<Self, Error> {
        let made = std::fs::create_dir_all(path);
        made.map_err(|source| Error::Record { path: path.to_owned(), source })?;
        Ok(Self(Arc::new(path.to_owned())))
    }

    /// The file of the node whose scheme, host and port are `origin`.
    pub(crate) fn of_node(&self, origin: &str) -> Result<Record, Error> {
        let name: String =
            origin.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let path = self.0.join(format!("{name}.{EXTENSION}"));
        let open = || {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            let length = file.metadata()?.len();
            Ok(Record(Mutex::new(Open { file: Some(file), length })))
        };
        open().map_err(|source| Error::Record { path: path.clone(), source })
    }
}

/// One node's file.
#[derive(Debug)]
pub(crate) struct Record(Mutex<Open>);

#[derive(Debug)]
struct Open {
    /// `None` once it cannot be written any more.
    file: Option<File>,
    length: u64,
}

impl Record {
    /// Adds an exchange. A failure ends the recording, and is logged.
    pub(crate) fn add(
        &self,
        request: &[u8],
        answer: Answer,
        took: Duration,
        redacted: impl Fn(&str) -> String,
    ) {
        let request = serde_json::from_slice(request).expect("a request is JSON");
        let answer = match answer {
            Answer::Http { status, retry_after_ms, body } => {
                Answer::Http { status, retry_after_ms, body: body.redacted(&redacted) }
            }
            other => other,
        };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut line = serde_json::to_vec(&Exchange { request, answer, took_ms })
            .expect("an exchange has only text keys");
        line.push(b'\n');
        // A line that was written in part is left out by whoever reads.
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { file: Some(file), length } = &mut *open else { return };
        *length += line.len() as u64;
        let failed = match *length > LONGEST {
            true => Some(format!("there are {LONGEST} bytes already")),
            false => file.write_all(&line).err().map(|error| error.to_string()),
        };
        if let Some(error) = failed {
            tracing::warn!(
                code = "recording_ended",
                error,
                "no more of this node's answers are recorded"
            );
            open.file = None;
        }
    }
}

impl Body {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes)
            .map_or_else(|_| Self::Text(String::from_utf8_lossy(bytes).into_owned()), Self::Json)
    }

    fn redacted(self, redacted: &impl Fn(&str) -> String) -> Self {
        match self {
            Self::Text(text) => Self::Text(redacted(&text)),
            Self::Json(value) => Self::Json(each_text(value, redacted)),
        }
    }
}

/// Every text in `value`, changed; names of fields too.
fn each_text(value: Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(&text)),
        Value::Array(values) => values.into_iter().map(|value| each_text(value, change)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (change(&name), each_text(value, change)))
            .collect(),
        other => other,
    }
}

/// What was recorded of each node, by the names of their files.
///
/// # Errors
/// If the folder or a file cannot be read, or a line other than a file's last is no [`Exchange`].
pub fn read(folder: &Path) -> io::Result<Vec<(String, Vec<Exchange>)>> {
    let entries: io::Result<Vec<_>> = std::fs::read_dir(folder)?.collect();
    let mut paths: Vec<PathBuf> = entries?.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    paths.sort();
    paths.into_iter().map(|path| Ok((stem(&path), read_file(&path)?))).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_file(path: &Path) -> io::Result<Vec<Exchange>> {
    let mut lines = BufReader::new(File::open(path)?).split(b'\n').enumerate().peekable();
    let mut exchanges = Vec::new();
    while let Some((at, line)) = lines.next() {
        match serde_json::from_slice(&line?) {
            Ok(exchange) => exchanges.push(exchange),
            // The process ended while it wrote the last one.
            Err(_) if lines.peek().is_none() => {}
            Err(error) => {
                let text = format!("line {} of {} is no exchange: {error}", at + 1, path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(exchanges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn http(body: &[u8]) -> Answer {
        Answer::Http { status: 200, retry_after_ms: Some(1500), body: Body::of(body) }
    }

    #[test]
    fn what_is_recorded_is_read_again_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let recording = Recording::into_folder(&folder.path().join("new")).unwrap();
        let record = recording.of_node("https://node.example:8545").unwrap();
        let redacted = |text: &str| text.replace("secretsecret", "…");
        let request = br#"{"id":1,"method":"eth_chainId","params":[]}"#;
        let took = Duration::from_millis(7);
        // As text, as an escaped text, as a field's name.
        let said = br#"{"secretsecret":["\u0073ecretsecret", 5]}"#;
        record.add(request, http(said), took, redacted);
        record.add(request, http(b"<a href=/secretsecret>"), took, redacted);
        record.add(request, Answer::Cut, took, redacted);
        let path = folder.path().join("new/https---node.example-8545.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("ecretsecret"), "{text}");

        // The last line was not finished.
        std::fs::write(&path, text + "{\"request\":").unwrap();
        let nodes = read(&folder.path().join("new")).unwrap();
        let [(name, exchanges)] = &nodes[..] else { panic!("{nodes:?}") };
        assert_eq!(name, "https---node.example-8545");
        let answers: Vec<_> = exchanges.iter().map(|exchange| exchange.answer.clone()).collect();
        assert_eq!(
            answers,
            [http("{\"…\":[\"…\",5]}".as_bytes()), http("<a href=/…>".as_bytes()), Answer::Cut]
        );
        assert_eq!(
            (&exchanges[0].request["method"], exchanges[0].took_ms),
            (&json!("eth_chainId"), 7)
        );
    }

    #[test]
    fn a_file_that_is_no_recording_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.jsonl"), "{}\n{}\n").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("line 1 of") && error.contains("a.jsonl"), "{error}");
    }
}
