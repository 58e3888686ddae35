//! The server's endpoints, as functions.
//!
//! Each call ends when the server shows no sign of life for the setting `silence`. A caller that has another server to go to
//! watches the call's `Pulse` and does not wait so long.

use crate::{
    Access, Config,
    access::AccessError,
    pulse::{Pulse, retry_after},
};
use futures::StreamExt;
use protocol::{
    Advice, ApiError, ArtifactRef, ErrorCode, Fail, Heartbeat, JobId, ProofData, Request, Submit,
    Verdict, paths,
};
use sha2::{Digest, Sha256};
use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// A message is at most so long, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A download that breaks is taken up again, unless it breaks so often in a row without one more byte.
const MAX_BREAKS: u32 = 3;

/// A download that breaks is taken up again so many times at most.
const MAX_RESUMES: u32 = 100;

/// Pause before a download is taken up again.
const RESUME_PAUSE: Duration = Duration::from_millis(250);

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server could not be reached, or went away in the middle.
    #[error("server {server} cannot be reached: {detail}")]
    Unreachable {
        /// The server.
        server: String,
        /// What went wrong, with its causes.
        detail: String,
    },
    /// The server refuses.
    #[error("server refuses: {0}")]
    Refused(#[source] ApiError),
    /// The answer is not one of this protocol.
    #[error(
        "server {server} answers something else than a Prover Server ({detail}): check the address"
    )]
    Foreign {
        /// The server.
        server: String,
        /// What was answered.
        detail: String,
    },
    /// The bytes are not those that were named.
    #[error("the server's bytes are not those it named: {wanted} bytes of hash {sha256}", wanted = .0.len, sha256 = .0.sha256)]
    Corrupt(ArtifactRef),
    /// The bytes are more than this client accepts.
    #[error("the input has {len} bytes, more than this client accepts (max_input_bytes)")]
    TooLarge {
        /// Length announced.
        len: u64,
    },
    /// The proof is more than the server takes.
    #[error(
        "the proof has {len} bytes and the server takes {most}: let clients prove larger segments, ask for succinct proofs, \
         or raise the server's max_artifact_bytes"
    )]
    ProofTooLarge {
        /// Its length.
        len: u64,
        /// The server's limit.
        most: u64,
    },
    /// There is no token to show.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Our own disk failed.
    #[error("local file failed: {0}")]
    Disk(#[from] io::Error),
}

impl CallError {
    /// Whether the same call may work later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Foreign { .. } | Self::Access(_) => true,
            Self::Refused(error) => error.retryable,
            Self::Corrupt(_)
            | Self::TooLarge { .. }
            | Self::ProofTooLarge { .. }
            | Self::Disk(_) => false,
        }
    }

    /// When the server wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(error) if error.retryable => {
                error.retry_after_ms.map(Duration::from_millis)
            }
            _ => None,
        }
    }

    /// Whether the server refuses a body for its length.
    pub fn too_large(&self) -> bool {
        match self {
            Self::ProofTooLarge { .. } => true,
            Self::Refused(error) => error.code == ErrorCode::TooLarge,
            _ => false,
        }
    }
}

/// A connection to a server. Clones share it.
#[derive(Clone, Debug)]
pub struct Api {
    server: String,
    http: reqwest::Client,
    access: Access,
    patience: Duration,
    silence: Duration,
    max_input: u64,
}

type Result<T, E = CallError> = std::result::Result<T, E>;

impl Api {
    /// A connection to `server`. Nothing is sent yet.
    ///
    /// # Errors
    /// A text that says what is wrong with the address.
    pub fn new(config: &Config, server: &str) -> Result<Self, String> {
        let server = server.trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&server).map_err(|error| error.to_string())?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(format!("scheme {} is not supported: use http or https", url.scheme()));
        }
        let access = config.access.clone();
        if access.exposed_to_network(&url) {
            tracing::warn!(code = "token_unencrypted", %server, "the token goes over the network unencrypted: use https");
        }
        let http = access.http(&url).map_err(|error| error.to_string())?;
        let (silence, patience) = (config.silence, config.patience.min(config.silence));
        // A host that is gone says nothing, not even that it is: without these a request that is held open would wait for it.
        let probes = Duration::from_secs(5);
        let http = http.connect_timeout(patience).tcp_keepalive(probes);
        let http = http.tcp_keepalive_interval(probes).tcp_keepalive_retries(3);
        let http = http.build().map_err(|error| error.to_string())?;
        let max_input = config.max_input_bytes;
        Ok(Self { server, http, access, patience, silence, max_input })
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Asks for work.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn request(&self, request: Request) -> Result<ProofData> {
        let patience = Duration::from_millis(request.wait_ms) + self.silence;
        match self.call(paths::REQUEST, ProofData::Request(request), patience).await? {
            answer @ (ProofData::Response(_) | ProofData::NoWork(_)) => Ok(answer),
            other => Err(self.foreign(format!("{other:?}"))),
        }
    }

    /// Keeps a lease alive.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn heartbeat(&self, job: &JobId, beat: Heartbeat) -> Result<Advice> {
        match self.call(&paths::heartbeat(job), ProofData::Heartbeat(beat), self.patience).await? {
            ProofData::HeartbeatAck(ack) => Ok(ack.advice),
            other => Err(self.foreign(format!("{other:?}"))),
        }
    }

    /// Hands in a proof that has been uploaded. The server may hold the request open for `wait`, in whole seconds, until there is
    /// a verdict; a server that does not know this wish decides for itself.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn submit(&self, job: &JobId, submit: Submit, wait: Duration) -> Result<Verdict> {
        let request = self.http.post(self.url(&paths::submit(job)));
        let request = request.header("prefer", format!("wait={}", wait.as_secs()));
        let patience = wait + self.silence;
        match self.send(request, ProofData::Submit(submit), patience).await? {
            ProofData::SubmitAck(ack) => Ok(ack.verdict),
            other => Err(self.foreign(format!("{other:?}"))),
        }
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn fail(&self, job: &JobId, fail: Fail) -> Result<()> {
        match self.call(&paths::fail(job), ProofData::Fail(fail), self.silence).await? {
            ProofData::FailAck(_) => Ok(()),
            other => Err(self.foreign(format!("{other:?}"))),
        }
    }

    /// Uploads the file at `path`, piece by piece.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn upload(&self, artifact: &ArtifactRef, path: &Path, pulse: &Pulse) -> Result<()> {
        let file = tokio::fs::File::open(path).await?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024);
        let beating = pulse.clone();
        let body = reqwest::Body::wrap_stream(pieces.inspect(move |_| beating.beat()));
        let request = self.http.put(self.url(&paths::artifact(&artifact.sha256)));
        let request = self.access.authorize(request)?;
        let request = request.header(reqwest::header::CONTENT_LENGTH, artifact.len).body(body);
        let answer = tokio::select! {
            answer = request.send() => answer.map_err(|error| self.unreachable(&error))?,
            () = pulse.stalled(self.silence) => return Err(self.silent()),
        };
        pulse.beat();
        if answer.status().is_success() { Ok(()) } else { Err(self.refusal(answer).await) }
    }

    /// Downloads an artifact to `path`, piece by piece, and checks it. If the connection breaks, the download continues where it
    /// was, provided that the server supports ranges. The file is worthless if this fails.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn download(&self, artifact: &ArtifactRef, path: &Path, pulse: &Pulse) -> Result<()> {
        if artifact.len > self.max_input {
            return Err(CallError::TooLarge { len: artifact.len });
        }
        let mut download =
            Download { file: tokio::fs::File::create(path).await?, hash: Sha256::new(), len: 0 };
        let (mut breaks, mut most) = (0, 0);
        for _ in 0..MAX_RESUMES {
            match self.pieces(artifact, &mut download, pulse).await {
                Ok(()) => break,
                Err(error @ CallError::Unreachable { .. }) => {
                    breaks = if download.len > most { 1 } else { breaks + 1 };
                    most = most.max(download.len);
                    // Nothing has come at all: who asks decides what to do.
                    if most == 0 || breaks >= MAX_BREAKS {
                        return Err(error);
                    }
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        download.file.flush().await?;
        let found: [u8; 32] = download.hash.finalize().into();
        if download.len != artifact.len || found != *artifact.sha256.as_bytes() {
            return Err(CallError::Corrupt(*artifact));
        }
        Ok(())
    }

    /// Downloads what is missing; all of it if the server does not support ranges.
    async fn pieces(
        &self,
        artifact: &ArtifactRef,
        download: &mut Download,
        pulse: &Pulse,
    ) -> Result<()> {
        let request = self.http.get(self.url(&paths::artifact(&artifact.sha256)));
        let mut request = self.access.authorize(request)?;
        if download.len > 0 {
            request = request.header(reqwest::header::RANGE, format!("bytes={}-", download.len));
        }
        let answer = tokio::time::timeout(self.silence, request.send()).await;
        let answer =
            answer.map_err(|_| self.silent())?.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        pulse.beat();
        let from = format!("bytes {}-", download.len);
        let range = answer.headers().get(reqwest::header::CONTENT_RANGE);
        let continued = answer.status() == reqwest::StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.as_bytes().starts_with(from.as_bytes()));
        if download.len > 0 && !continued {
            download.restart().await?;
        }
        let mut pieces = answer.bytes_stream();
        while let Some(piece) =
            tokio::time::timeout(self.silence, pieces.next()).await.map_err(|_| self.silent())?
        {
            let piece = piece.map_err(|error| self.unreachable(&error))?;
            pulse.beat();
            if download.len + piece.len() as u64 > artifact.len {
                return Err(CallError::Corrupt(*artifact));
            }
            download.take(&piece).await?;
        }
        Ok(())
    }

    async fn call(&self, path: &str, message: ProofData, patience: Duration) -> Result<ProofData> {
        self.send(self.http.post(self.url(path)), message, patience).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        message: ProofData,
        patience: Duration,
    ) -> Result<ProofData> {
        let request = self.access.authorize(request)?;
        let request = request.json(&message).timeout(patience);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        let bytes = self.body(answer).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.foreign(error))
    }

    /// The answer's body, if it is as short as a message.
    async fn body(&self, mut answer: reqwest::Response) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_ANSWER {
                return Err(self.foreign(format!("more than {MAX_ANSWER} bytes")));
            }
        }
        Ok(bytes)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    async fn refusal(&self, answer: reqwest::Response) -> CallError {
        let status = answer.status();
        let again = retry_after(answer.headers(), SystemTime::now());
        let again = again.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let bytes = match self.body(answer).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        if let Ok(error) = serde_json::from_slice::<ApiError>(&bytes) {
            let retry_after_ms = error.retry_after_ms.max(again);
            return CallError::Refused(ApiError { retry_after_ms, ..error });
        }
        // Said by a proxy in between, in its own words.
        let (code, message, retryable) = match status {
            reqwest::StatusCode::PAYLOAD_TOO_LARGE => {
                (ErrorCode::TooLarge, "takes no body of this length", false)
            }
            reqwest::StatusCode::TOO_MANY_REQUESTS => {
                (ErrorCode::RateLimited, "wants fewer requests", true)
            }
            reqwest::StatusCode::SERVICE_UNAVAILABLE => {
                (ErrorCode::Unavailable, "is not available now", true)
            }
            _ => return self.foreign(status),
        };
        let message = format!("{} {message}", self.server);
        CallError::Refused(ApiError { code, message, retryable, retry_after_ms: again })
    }

    fn foreign(&self, detail: impl ToString) -> CallError {
        CallError::Foreign {
            server: self.server.clone(),
            detail: detail.to_string().chars().take(200).collect(),
        }
    }

    pub(crate) fn silent(&self) -> CallError {
        CallError::Unreachable { server: self.server.clone(), detail: "it fell silent".into() }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        // The causes say what happened ("connection refused"); the outermost text only says where.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        CallError::Unreachable { server: self.server.clone(), detail: cause.to_string() }
    }
}

/// What has come of an artifact.
struct Download {
    file: tokio::fs::File,
    hash: Sha256,
    len: u64,
}

impl Download {
    async fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece).await?;
        self.hash.update(piece);
        self.len += piece.len() as u64;
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.file.rewind().await?;
        self.file.set_len(0).await?;
        (self.hash, self.len) = (Sha256::new(), 0);
        Ok(())
    }
}
