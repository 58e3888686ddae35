//! JSON over HTTP for a node that is not trusted: its answers are bounded, and it cannot send the server elsewhere.
//!
//! * A body is read piece by piece and dropped where it becomes too long; so is what it unpacks to.
//! * No redirect is followed: the operator chose the node, and an internal address would be reached with the server's rights.
//! * Of a body that is no answer, only the beginning goes into an error, without what the node's URL holds beside its origin.

use crate::{Error, error::with_causes, secrets::Secrets};
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use reqwest::{
    Client, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP connection to a node.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    url: Url,
    /// What may be a key in its URL.
    pub(crate) secrets: Secrets,
}

/// What came back, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// How long the node wants to be left alone.
    pub(crate) wait: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug)]
pub(crate) enum Lost {
    /// No connection was made.
    Away(String),
    /// The connection ended before the answer did, or what came cannot be unpacked.
    Cut(String),
    /// The answer is longer than allowed.
    TooLong,
}

impl Http {
    /// # Errors
    /// [`Error::Url`].
    pub(crate) fn new(url: Url) -> Result<Self, Error> {
        // A default is installed already if this is not the first client: the same one, or the one that the application
        // chose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        // The system's certificate authorities are needed only for https; there may be none.
        let http = if url.scheme() == "https" { http } else { http.tls_certs_only([]) };
        let client = http.build().map_err(|error| Error::Url { reason: error.to_string() })?;
        Ok(Self { client, secrets: Secrets::of(&url), url })
    }

    /// Sends this JSON and reads what comes back, up to `longest` bytes.
    pub(crate) async fn post(&self, json: Vec<u8>, longest: usize) -> Result<Reply, Lost> {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let response = request.body(json).send().await.map_err(|error| self.lost(&error))?;
        let status = response.status().as_u16();
        let wait = retry_after(response.headers(), SystemTime::now());
        let body = match self.body(response, longest).await {
            // Some servers begin with a byte order mark, which JSON does not have.
            Ok(body) if body.starts_with(b"\xef\xbb\xbf") => body[3..].to_vec(),
            Ok(body) => body,
            Err(lost) if (200..300).contains(&status) => return Err(lost),
            // The status says enough.
            Err(_) => Vec::new(),
        };
        Ok(Reply { status, wait, body })
    }

    async fn body(&self, mut response: Response, longest: usize) -> Result<Vec<u8>, Lost> {
        if response.content_length().is_some_and(|length| length > longest as u64) {
            return Err(Lost::TooLong);
        }
        let mut body = Bounded { bytes: Vec::new(), longest };
        while let Some(piece) = response.chunk().await.map_err(|error| self.lost(&error))? {
            body.write_all(&piece).map_err(|_| Lost::TooLong)?;
        }
        unpacked(body.bytes, longest)
    }

    fn lost(&self, error: &reqwest::Error) -> Lost {
        let text = self.secrets.quote(&with_causes(error));
        if error.is_connect() { Lost::Away(text) } else { Lost::Cut(text) }
    }
}

/// What the header `Retry-After` asks for: seconds, or a time of day.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

/// Some servers compress what nobody asked them to. No JSON begins as compressed data does.
fn unpacked(body: Vec<u8>, longest: usize) -> Result<Vec<u8>, Lost> {
    let into = Bounded { bytes: Vec::new(), longest };
    let unpacked = match body[..] {
        [0x1f, 0x8b, ..] => {
            let mut gzip = MultiGzDecoder::new(into);
            gzip.write_all(&body).and_then(|()| gzip.finish())
        }
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => {
            let mut zlib = ZlibDecoder::new(into);
            zlib.write_all(&body).and_then(|()| zlib.finish())
        }
        _ => return Ok(body),
    };
    unpacked.map(|into| into.bytes).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => Lost::TooLong,
        _ => Lost::Cut(format!("its compressed answer cannot be unpacked: {error}")),
    })
}

/// Bytes up to a length.
struct Bounded {
    bytes: Vec<u8>,
    longest: usize,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.longest - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_compressed_answer_is_unpacked_and_a_bomb_is_not() {
        let text = vec![b' '; 1 << 20];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&text).unwrap();
        for packed in [gzip.clone(), zlib.finish().unwrap()] {
            assert!(packed.len() < 2_000);
            assert_eq!(unpacked(packed.clone(), 1 << 20).unwrap(), text);
            assert!(matches!(unpacked(packed, (1 << 20) - 1), Err(Lost::TooLong)));
        }
        let half = unpacked(gzip[..gzip.len() / 2].to_vec(), 1 << 20);
        assert!(matches!(half, Err(Lost::Cut(_))), "{half:?}");
        assert_eq!(unpacked(b"{}".to_vec(), 10).unwrap(), b"{}");
    }

    #[test]
    fn a_wish_to_be_left_alone_is_read_in_each_of_its_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        for (text, wait) in [
            ("30", Some(30.0)),
            ("0.5", Some(0.5)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30.0)),
            ("Wed, 21 Oct 2015 07:27:30 GMT", None),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs_f64), "{text}");
        }
    }
}
