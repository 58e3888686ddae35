//! JSON-RPC over HTTP for a node that is not trusted: its answers are bounded, and it cannot send the server elsewhere.
//!
//! * A body is read piece by piece and dropped where it becomes too long.
//! * No redirect is followed: the operator chose the node, and an internal address would be reached with the server's rights.
//! * Of a body that is no answer, only the beginning goes into an error.

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_provider::transport::{
    TransportError, TransportErrorKind, TransportFut, TransportResult,
};
use reqwest::{Client, Response, Url, header::RETRY_AFTER};
use std::{
    task::{Context, Poll},
    time::Duration,
};

/// The longest answer, in bytes. The witness of a block of 36 million gas has some 20 MB, and twice that as hexadecimal text.
const MAX_ANSWER: usize = 256 << 20;

/// How much of a text of the node's is quoted, in characters.
pub(crate) const QUOTED: usize = 300;

/// The HTTP connection to a node.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) client: Client,
    pub(crate) url: Url,
}

impl tower::Service<RequestPacket> for Http {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl Http {
    async fn send(self, request: RequestPacket) -> TransportResult<ResponsePacket> {
        let sent = self.client.post(self.url).headers(request.headers()).json(&request).send();
        let response = sent.await.map_err(TransportErrorKind::custom)?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
        let body = body(response).await;
        // Whatever the status, an error in JSON-RPC's own form says more.
        let text = match body {
            Ok(body) => match serde_json::from_slice::<ResponsePacket>(&body) {
                Ok(answer) if status.is_success() || answer.is_error() => return Ok(answer),
                Err(error) if status.is_success() => {
                    return Err(TransportError::deser_err(error, quoted(&body)));
                }
                Ok(_) | Err(_) => quoted(&body),
            },
            Err(unread) if status.is_success() => {
                return Err(TransportErrorKind::custom_str(&unread));
            }
            Err(unread) => unread,
        };
        let wait = wait.map(Duration::from_secs);
        Err(TransportErrorKind::http_error_with_retry_after(status.as_u16(), text, wait))
    }
}

/// The body, or why it was not read.
async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let too_long = || format!("its answer is longer than {} MB", MAX_ANSWER >> 20);
    if response.content_length().is_some_and(|length| length > MAX_ANSWER as u64) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + piece.len() > MAX_ANSWER {
            return Err(too_long());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The beginning of a body, for people.
fn quoted(body: &[u8]) -> String {
    let beginning = &body[..body.len().min(4 * QUOTED)];
    cut(&String::from_utf8_lossy(beginning))
}

/// The beginning of a text of the node's, without control characters.
pub(crate) fn cut(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(QUOTED).map(plain).collect();
    if text.chars().nth(QUOTED).is_some() {
        short.push('…');
    }
    short
}
