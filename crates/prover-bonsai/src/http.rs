//! HTTP for an engine that is not trusted: its answers are bounded in length and in time, and it cannot send us elsewhere.
//!
//! * A body is read piece by piece and dropped where it becomes too long or takes too long.
//! * No redirect is followed, and no proxy of the environment is used.
//! * Of a body that is no answer only the beginning goes into an error, without the key.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, Url};

use crate::config::Config;
use crate::error::Trouble;

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a text of the engine's is quoted, in characters.
const QUOTED: usize = 300;
/// Fewer characters of a key tell nothing.
const LEAST_PART: usize = 6;
/// So much of a key is nobody's business, in characters.
const KEY_PART: usize = 4;
/// The longest key, in bytes.
const MAX_KEY: usize = 4096;
/// The longest wish to be left alone that is granted.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The version whose receipts are wanted: the sources of 3.1.0-rc.1, which is what this build verifies with, are those of 3.0.6.
const RISC0_VERSION: &str = "3.0.6";

/// The HTTP connection to an engine.
#[derive(Debug)]
pub(crate) struct Http<'c> {
    client: Client,
    config: &'c Config,
}

/// What an engine is asked.
#[derive(Debug)]
pub(crate) struct Question<'q> {
    /// In words, for errors.
    pub what: &'q str,
    pub method: Method,
    pub url: Url,
    pub body: Body,
    /// The longest answer that is read.
    pub longest: usize,
    pub within: Duration,
}

/// What goes with a question.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Nothing,
    Json(Bytes),
    Bytes(Bytes),
}

/// An answer that is none of the known refusals.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl<'c> Http<'c> {
    pub(crate) fn new(config: &'c Config) -> Result<Self, reqwest::Error> {
        // A default is installed already if this is not the first client: the same one, or the application's choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        // The system's authorities are needed only for https; there may be none.
        let http = match config.url.scheme() {
            "https" => http,
            _ => http.tls_certs_only([]),
        };
        Ok(Self { client: http.build()?, config })
    }

    /// Asks, and reads the answer. Whatever has a status of success is an answer.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<Answer, Trouble> {
        let key = self.key()?;
        let Question { what, within, .. } = question;
        let late = Trouble::Slow { what: what.to_owned(), within };
        tokio::time::timeout(within, self.ask_for_long(question, key.as_deref()))
            .await
            .unwrap_or(Err(late))
    }

    async fn ask_for_long(
        &self,
        question: Question<'_>,
        key: Option<&str>,
    ) -> Result<Answer, Trouble> {
        let Question { what, method, url, body, longest, .. } = question;
        let mut request = self.client.request(method, url).header("x-risc0-version", RISC0_VERSION);
        if let Some(key) = key {
            let mut key = HeaderValue::from_str(key).expect("its characters were looked at");
            key.set_sensitive(true);
            request = request.header("x-api-key", key);
        }
        request = match body {
            Body::Nothing => request,
            Body::Json(json) => request.header("content-type", "application/json").body(json),
            Body::Bytes(bytes) => {
                request.header("content-type", "application/octet-stream").body(bytes)
            }
        };
        let cut = |error: &reqwest::Error| {
            let detail = quote(&chain(error), key);
            match error.is_connect() {
                true => Trouble::Unreachable(detail),
                false => Trouble::Cut { what: what.to_owned(), detail },
            }
        };
        let response = request.send().await.map_err(|error| cut(&error.without_url()))?;
        let status = response.status().as_u16();
        let wait = retry_after(response.headers(), SystemTime::now());
        if (200..300).contains(&status) {
            let limit = longest;
            let read = read(response, longest).await;
            let body = read.map_err(|error| cut(&error.without_url()))?;
            let body = body.ok_or(Trouble::TooLong { what: what.to_owned(), limit })?;
            return Ok(Answer { status, body });
        }
        // The beginning is enough, if there is one.
        let said = begin(response).await;
        let text = quote(String::from_utf8_lossy(&said).trim(), key);
        let what = what.to_owned();
        Err(match status {
            300..=399 => Trouble::Redirect { status },
            401 | 403 => Trouble::Key { status },
            404 => Trouble::NotFound { what },
            413 => Trouble::TooLarge { what, status },
            429 | 502..=504 => Trouble::Busy { status, wait },
            500.. => Trouble::Internal { what, status, text },
            _ => Trouble::Refused { what, status, text },
        })
    }

    /// A text of the engine's for an error: its beginning, without control characters and without the key.
    pub(crate) fn quote(&self, text: &str) -> String {
        quote(text, self.key().ok().flatten().as_deref())
    }

    /// The key, as it is in its file now.
    fn key(&self) -> Result<Option<String>, Trouble> {
        let Some(path) = &self.config.key_file else { return Ok(None) };
        read_key(path).map(Some).map_err(|detail| Trouble::KeyFile { path: path.clone(), detail })
    }
}

fn read_key(path: &Path) -> Result<String, String> {
    let kind = fs::metadata(path).map_err(|error| error.to_string())?;
    if !kind.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if kind.len() > MAX_KEY as u64 + 2 {
        return Err(format!("it is longer than {MAX_KEY} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let key = text.trim();
    match key.len() {
        0 => Err("it is empty".to_owned()),
        1..=MAX_KEY if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(key.to_owned()),
        1..=MAX_KEY => Err("it holds spaces or other characters that no key has".to_owned()),
        _ => Err(format!("it is longer than {MAX_KEY} bytes")),
    }
}

/// All of a body, unless it is longer than `longest`.
async fn read(mut response: Response, longest: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    if response.content_length().is_some_and(|length| length > longest as u64) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if piece.len() > longest - body.len() {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body))
}

/// The beginning of a body, as far as it comes.
async fn begin(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    // So long that a key in what is quoted is there as a whole.
    while body.len() < 4 * QUOTED + MAX_KEY
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece[..piece.len().min(4 * QUOTED + MAX_KEY - body.len())]);
    }
    body
}

/// What the header `Retry-After` asks for: seconds, or a time of day.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?,
    };
    Some(wait.min(MAX_WAIT))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// The text without the key, in whatever form somebody may say it, and without half of it or more; and without its beginning at the
/// text's end, where the text was cut.
fn without(key: &str, text: &str) -> String {
    let (plain, bytes) = (text.to_ascii_lowercase(), key.as_bytes());
    let mut hidden = vec![false; text.len()];
    for form in [
        key.to_owned(),
        key.chars().rev().collect(),
        hex::encode(bytes),
        STANDARD.encode(bytes),
        URL_SAFE_NO_PAD.encode(bytes),
        bytes.iter().map(|byte| format!("%{byte:02x}")).collect(),
    ] {
        let form = form.to_ascii_lowercase();
        let part = (form.len() / 2).max(LEAST_PART).min(form.len());
        let parts: HashSet<&[u8]> = form.as_bytes().windows(part).collect();
        for (at, window) in plain.as_bytes().windows(part).enumerate() {
            if parts.contains(window) {
                hidden[at..at + part].fill(true);
            }
        }
    }
    let mut said = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        match hidden[at] {
            false => said.push(character),
            true if said.ends_with('…') => {}
            true => said.push('…'),
        }
    }
    let mut text = said;
    let cut = (KEY_PART..key.len()).rev().find(|length| text.ends_with(&key[..*length]));
    if let Some(length) = cut {
        text.truncate(text.len() - length);
        text.push('…');
    }
    text
}

fn quote(text: &str, key: Option<&str>) -> String {
    let text = match key {
        Some(key) => without(key, text),
        None => text.to_owned(),
    };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(QUOTED).map(plain).collect();
    if text.chars().nth(QUOTED).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_wish_to_be_left_alone_is_read_in_each_of_its_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        for (text, wait) in [
            ("30", Some(30)),
            ("1000000", Some(60)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:30 GMT", None),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_quoted_text_is_short_and_plain_and_holds_no_key() {
        assert_eq!(quote("no such key: abc\n\x1b[2J", Some("abc")), "no such key: …  [2J");
        assert_eq!(quote(&"x".repeat(500), None).chars().count(), 301);
        // In other forms, and most of it.
        let key = "Ab0-Key_of-an.Engine7654";
        let reversed: String = key.chars().rev().collect();
        for form in [
            key.to_uppercase(),
            reversed,
            hex::encode(key),
            STANDARD.encode(key),
            key.bytes().map(|byte| format!("%{byte:02X}")).collect(),
            key[2..].to_owned(),
            key[..22].to_owned(),
        ] {
            let said = quote(&format!("the key {form} is wrong"), Some(key));
            assert!(said.starts_with("the key …") && said.ends_with(" is wrong"), "{said}");
            assert!(said.chars().count() < 24, "{said}");
        }
        assert_eq!(quote("an engine at 0x7654", Some(key)), "an engine at 0x7654");
        // Cut within the key.
        let key = "0123456789".repeat(200);
        let said = format!("{key} and {}", &key[..1500]);
        assert_eq!(quote(&said, Some(&key)), "… and …");
    }

    #[test]
    fn a_key_file_holds_one_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, key) in [
            ("abc\n", Ok("abc")),
            ("", Err("it is empty")),
            ("a b", Err("it holds spaces or other characters that no key has")),
            ("a\nb", Err("it holds spaces or other characters that no key has")),
        ] {
            fs::write(file.path(), text).unwrap();
            let expected = key.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(read_key(file.path()), expected, "{text:?}");
        }
        let folder = file.path().parent().unwrap();
        assert_eq!(read_key(folder), Err("it is no regular file".to_owned()));
        fs::write(file.path(), "x".repeat(MAX_KEY + 1)).unwrap();
        assert!(read_key(file.path()).unwrap_err().contains("longer"));
    }
}
