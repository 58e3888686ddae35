//! The server's endpoints, as functions.

use crate::{Access, Config, access::AccessError};
use futures::StreamExt;
use protocol::{
    Advice, ApiError, ArtifactRef, ErrorCode, Fail, Heartbeat, JobId, ProofData, Request, Submit,
    Verdict, paths,
};
use sha2::{Digest, Sha256};
use std::{io, path::Path, time::Duration};
use tokio::io::AsyncWriteExt;

/// A message is at most so long, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

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
        let http = http.connect_timeout(Duration::from_secs(10)).build();
        let http = http.map_err(|error| error.to_string())?;
        let (silence, max_input) = (config.silence, config.max_input_bytes);
        Ok(Self { server, http, access, silence, max_input })
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
        let patience = self.silence.min(Duration::from_secs(10));
        match self.call(&paths::heartbeat(job), ProofData::Heartbeat(beat), patience).await? {
            ProofData::HeartbeatAck(ack) => Ok(ack.advice),
            other => Err(self.foreign(format!("{other:?}"))),
        }
    }

    /// Hands in a proof that has been uploaded.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn submit(&self, job: &JobId, submit: Submit) -> Result<Verdict> {
        match self.call(&paths::submit(job), ProofData::Submit(submit), self.silence).await? {
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
    pub async fn upload(&self, artifact: &ArtifactRef, path: &Path) -> Result<()> {
        let file = tokio::fs::File::open(path).await?;
        let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::with_capacity(
            file,
            256 * 1024,
        ));
        let request = self.http.put(self.url(&paths::artifact(&artifact.sha256)));
        let request = self.access.authorize(request)?;
        let request = request.header(reqwest::header::CONTENT_LENGTH, artifact.len).body(body);
        // As long as bytes can move: at least 64 kB a second.
        let patience = self.silence + Duration::from_secs(artifact.len / 65_536);
        let answer =
            request.timeout(patience).send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refusal(answer).await) }
    }

    /// Downloads an artifact to `path`, piece by piece, and checks it. The file is worthless if this fails.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn download(&self, artifact: &ArtifactRef, path: &Path) -> Result<()> {
        if artifact.len > self.max_input {
            return Err(CallError::TooLarge { len: artifact.len });
        }
        let request = self.http.get(self.url(&paths::artifact(&artifact.sha256)));
        let request = self.access.authorize(request)?;
        let answer = tokio::time::timeout(self.silence, request.send()).await;
        let answer =
            answer.map_err(|_| self.silent())?.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        let mut file = tokio::fs::File::create(path).await?;
        let (mut hash, mut len) = (Sha256::new(), 0);
        let mut pieces = answer.bytes_stream();
        while let Some(piece) =
            tokio::time::timeout(self.silence, pieces.next()).await.map_err(|_| self.silent())?
        {
            let piece = piece.map_err(|error| self.unreachable(&error))?;
            len += piece.len() as u64;
            if len > artifact.len {
                return Err(CallError::Corrupt(*artifact));
            }
            hash.update(&piece);
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        let found: [u8; 32] = hash.finalize().into();
        if len != artifact.len || found != *artifact.sha256.as_bytes() {
            return Err(CallError::Corrupt(*artifact));
        }
        Ok(())
    }

    async fn call(&self, path: &str, message: ProofData, patience: Duration) -> Result<ProofData> {
        let request = self.access.authorize(self.http.post(self.url(path)))?;
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
        match self.body(answer).await {
            Err(error) => error,
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(error) => CallError::Refused(error),
                // Said by a proxy in between, in its own words.
                Err(_) if status == reqwest::StatusCode::PAYLOAD_TOO_LARGE => {
                    CallError::Refused(ApiError {
                        code: ErrorCode::TooLarge,
                        message: format!("{} takes no body of this length", self.server),
                        retryable: false,
                        retry_after_ms: None,
                    })
                }
                Err(_) => self.foreign(status),
            },
        }
    }

    fn foreign(&self, detail: impl ToString) -> CallError {
        CallError::Foreign {
            server: self.server.clone(),
            detail: detail.to_string().chars().take(200).collect(),
        }
    }

    fn silent(&self) -> CallError {
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
