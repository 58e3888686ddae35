//! What was said to nodes and what they answered, in files: for bug reports, and for tests that repeat it.
//!
//! A folder has one file for each node, named by its scheme, host and port, with one [`Exchange`] as JSON on each line. What a
//! node's URL holds beside these is removed from the answers: it may be a key.

use crate::{Error, secrets::Secrets};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// No more than this is recorded of a node, nor read: a recording that somebody forgot must not fill the disk, nor another's the memory.
const LONGEST: u64 = 1 << 30;
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
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// JSON, on one line.
    Json(Box<RawValue>),
    /// The beginning of something else.
    Text(String),
}

/// A folder into which exchanges are written. Clones write into the same one.
#[derive(Clone, Debug)]
pub struct Recording(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The files that are open, by the nodes' names.
    nodes: Mutex<BTreeMap<String, Arc<Record>>>,
}

impl PartialEq for Recording {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
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
        Ok(Self(Arc::new(Folder { path: path.to_owned(), nodes: Mutex::default() })))
    }

    /// The file of the node whose scheme, host and port are `origin`. It stays open, so that nothing which becomes of it later fails
    /// a request.
    pub(crate) fn of_node(&self, origin: &str) -> Result<Arc<Record>, Error> {
        let mut nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = nodes.get(origin) {
            return Ok(record.clone());
        }
        let name: String =
            origin.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let path = self.0.path.join(format!("{name}.{EXTENSION}"));
        let opened = open(&path).map_err(|source| Error::Record { path, source })?;
        let record = Arc::new(Record(Mutex::new(opened)));
        nodes.insert(origin.to_owned(), record.clone());
        Ok(record)
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        // A process ended while it wrote a line: the next one begins behind it.
        if last != [b'\n'] {
            file.write_all(b"\n")?;
        }
    }
    Ok(Open { file: Some(file), length })
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
    pub(crate) fn add(&self, request: &[u8], answer: Answer, took: Duration) {
        let request = serde_json::from_slice(request).expect("a request is JSON");
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
    /// A body without what may be a key.
    pub(crate) fn of(bytes: &[u8], secrets: &Secrets) -> Self {
        let text = || Self::Text(secrets.quote_body(bytes));
        let Ok(json) = std::str::from_utf8(bytes) else { return text() };
        // As it came, where that is fit: it may be long. A text in JSON can be written in many ways.
        let fit = !json.contains(['\n', '\\']) && !secrets.are_in(json);
        let json = match fit {
            true => RawValue::from_string(json.to_owned()),
            false => serde_json::from_str(json)
                .and_then(|value| serde_json::value::to_raw_value(&redacted(value, secrets))),
        };
        json.map_or_else(|_| text(), Self::Json)
    }
}

/// Without the secrets in texts, names of fields and numbers.
fn redacted(value: Value, secrets: &Secrets) -> Value {
    match value {
        Value::String(text) => Value::String(secrets.redacted(&text)),
        Value::Array(values) => values.into_iter().map(|value| redacted(value, secrets)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (secrets.redacted(&name), redacted(value, secrets)))
            .collect(),
        Value::Number(number) if secrets.are_in(&number.to_string()) => {
            Value::String(secrets.redacted(&number.to_string()))
        }
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
    paths
        .into_iter()
        .map(|path| Ok((stem(&path), read_file(&path).map_err(|error| named(&path, error))?)))
        .collect()
}

/// The name of a node's file, fit to be shown.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().escape_debug().to_string()
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display().to_string().escape_debug()))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn read_file(path: &Path) -> io::Result<Vec<Exchange>> {
    let kind = std::fs::symlink_metadata(path)?;
    if !kind.is_file() {
        return Err(invalid("it is no regular file".into()));
    }
    if kind.len() > LONGEST {
        return Err(invalid(format!("it has more than {LONGEST} bytes, which no recording has")));
    }
    let lines = BufReader::new(File::open(path)?.take(LONGEST)).split(b'\n');
    let mut exchanges = Vec::new();
    for (line, at) in lines.zip(1..) {
        match serde_json::from_slice(&line?) {
            Ok(exchange) => exchanges.push(exchange),
            // A process ended while it wrote the line.
            Err(error) if error.is_eof() => {}
            Err(error) => return Err(invalid(format!("line {at} is no exchange: {error}"))),
        }
    }
    Ok(exchanges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const REQUEST: &[u8] = br#"{"id":1,"method":"eth_chainId","params":[]}"#;

    fn secrets() -> Secrets {
        Secrets::of(&"https://node.example:8545/secretsecret/123456789".parse().unwrap())
    }

    fn http(body: &[u8]) -> Answer {
        let body = Body::of(body, &secrets());
        Answer::Http { status: 200, retry_after_ms: Some(1500), body }
    }

    fn record(folder: &Path, answer: Answer) {
        let recording = Recording::into_folder(folder).unwrap();
        let record = recording.of_node("https://node.example:8545").unwrap();
        record.add(REQUEST, answer, Duration::from_millis(7));
    }

    fn bodies(folder: &Path) -> Vec<String> {
        let nodes = read(folder).unwrap();
        let [(name, exchanges)] = &nodes[..] else { panic!("{nodes:?}") };
        assert_eq!(name, "https---node.example-8545");
        let text = |exchange: &Exchange| match &exchange.answer {
            Answer::Http { body: Body::Json(json), .. } => json.get().to_owned(),
            Answer::Http { body: Body::Text(text), .. } => text.clone(),
            other => format!("{other:?}"),
        };
        assert!(exchanges.iter().all(|exchange| exchange.took_ms == 7));
        assert_eq!(exchanges[0].request["method"], json!("eth_chainId"));
        exchanges.iter().map(text).collect()
    }

    #[test]
    fn what_is_recorded_is_read_again_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        // As it came; an escaped text, a name, a number, several lines; no JSON; too deep; nothing.
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        for body in [
            r#"{"id": 1,  "result": 5.0}"#,
            r#"{"secretsecret":["\u0073ecretsecret", 123456789]}"#,
            "[1,\n2]",
            "<a href=/secretsecret>",
            &deep,
            "",
        ] {
            record(&folder, http(body.as_bytes()));
        }
        record(&folder, Answer::Cut);
        let path = folder.join("https---node.example-8545.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("ecretsecret") && !text.contains("123456789"), "{text}");
        let expected = [
            r#"{"id": 1,  "result": 5.0}"#,
            "{\"…\":[\"…\",\"…\"]}",
            "[1,2]",
            "<a href=/…>",
            &deep,
            "",
            "Cut",
        ];
        assert_eq!(bodies(&folder), expected);

        // A line that was not finished costs no other, whether more was recorded behind it or not.
        std::fs::write(&path, text + "{\"request\":").unwrap();
        assert_eq!(bodies(&folder), expected);
        record(&folder, Answer::Cut);
        assert_eq!(bodies(&folder).len(), expected.len() + 1);
    }

    #[test]
    fn a_folder_that_goes_ends_no_request() {
        let folder = tempfile::tempdir().unwrap();
        let recording = Recording::into_folder(folder.path()).unwrap();
        let first = recording.of_node("http://a").unwrap();
        drop(folder);
        recording.of_node("http://a").unwrap().add(REQUEST, Answer::Away, Duration::ZERO);
        first.add(REQUEST, Answer::Away, Duration::ZERO);
    }

    #[test]
    fn a_file_that_is_no_recording_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a\u{1b}.jsonl");
        std::fs::write(&path, "{}\n{}\n").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("a\\u{1b}.jsonl: line 1 is no exchange"), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is no regular file"), "{error}");
    }
}
