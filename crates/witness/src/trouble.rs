//! Why a node gave no answer, whether asking again may help, and what a person can do about it.
//!
//! * Nothing here decides by a message's words that something is missing for good: what decides is whether another way works
//!   (see [`Node`](crate::Node)). Words and codes only say how long it is worth asking again, and choose the error's text.

use crate::{
    Error,
    message::{METHOD_NOT_FOUND, Refusal},
    rpc::Rpc,
};
use std::time::Duration;

/// The first pause before a call is sent again.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Why a call, or a batch as a whole, has no answer.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// An error in JSON-RPC's own form.
    Refused(Refusal),
    /// An HTTP status that is no success, with a body that is no JSON-RPC.
    Status { status: u16, wait: Option<Duration>, text: String },
    /// There is no connection.
    Away(String),
    /// The answer is cut, or no JSON-RPC, or one to another question.
    Garbled(String),
    /// The answer is null, where something was asked for.
    Null,
    /// The answer is JSON-RPC, but what it holds is not what was asked for.
    WrongType(String),
    /// The answer is longer than allowed, in bytes.
    TooLong(usize),
    /// There is no answer after this long.
    Silent(Duration),
}

/// Whether the same call may have an answer a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    Hardly,
    Perhaps,
    Likely,
}

impl Trouble {
    pub(crate) fn passes(&self) -> Passes {
        match self {
            Self::Refused(refusal) if busy(refusal) => Passes::Likely,
            // The method, its parameters or the request are wrong, a call reverts, there is no such block, or history of that
            // age (EIP-4444): the node understood, and will say so again.
            Self::Refused(Refusal {
                code: METHOD_NOT_FOUND | -32602 | -32600 | -32700 | 3 | -39001 | 4444,
                ..
            }) => Passes::Hardly,
            Self::Refused(_) | Self::Away(_) | Self::Null | Self::WrongType(_) => Passes::Perhaps,
            Self::Status { status: 408 | 425 | 429 | 500 | 502.., .. } | Self::Garbled(_) => {
                Passes::Likely
            }
            Self::Status { .. } | Self::TooLong(_) | Self::Silent(_) => Passes::Hardly,
        }
    }

    /// How long the node wants to be left alone, if it says so.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    /// A pause of about this length, or as long as the node wants. Randomised, so that waiting requests do not all return at once.
    pub(crate) fn pause(&self, about: Duration) -> Duration {
        about.mul_f64(rand::random_range(0.5..1.5)).max(self.wait().unwrap_or_default())
    }

    /// Whether nobody is there, so that no other call will be answered either.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Whether the node says that it does not have the method.
    pub(crate) fn is_no_such_method(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code == METHOD_NOT_FOUND,
            Self::Status { status, .. } => matches!(status, 404 | 405 | 501),
            _ => false,
        }
    }

    /// The error that says so.
    pub(crate) fn into_error(self, rpc: &Rpc, method: &'static str) -> Error {
        let node = rpc.name();
        match self {
            Self::Refused(refusal) if busy(&refusal) => {
                let message = rpc.quote(&refusal.message);
                Error::Busy { node, method, message, wait: None }
            }
            Self::Refused(refusal) if pruned(&refusal.message) => {
                Error::Pruned { node, method, message: rpc.quote(&refusal.message) }
            }
            Self::Refused(Refusal { code, message }) => {
                Error::Rpc { node, method, code, message: rpc.quote(&message) }
            }
            Self::Status { status: 429, wait, text } => {
                let message = if text.is_empty() { "HTTP status 429".into() } else { text };
                Error::Busy { node, method, message, wait }
            }
            Self::Status { status, text, .. } => {
                let message = if text.is_empty() { "no body".into() } else { text };
                Error::Http { node, method, status, message }
            }
            Self::Away(reason) => Error::Unreachable { node, reason },
            Self::Garbled(reason) => {
                Error::Unreachable { node, reason: format!("{reason} (to {method})") }
            }
            // A node's way to say that it does not have the block's state.
            Self::Null if method == "eth_getProof" => {
                Error::Pruned { node, method, message: "its answer is null".into() }
            }
            Self::Null => rpc.malformed(format!("its answer to {method} is null")),
            Self::WrongType(reason) => rpc.malformed(format!("its answer to {method}: {reason}")),
            Self::TooLong(longest) => Error::TooLong { node, method, longest },
            Self::Silent(time) => {
                let reason = format!("no answer to {method} in {} s", time.as_secs());
                Error::Unreachable { node, reason }
            }
        }
    }
}

/// The pauses between the attempts of one call.
pub(crate) struct Pauses {
    pause: Duration,
    /// What is left for pauses, if the failure is likely to pass.
    likely: Duration,
    /// What is left if it is not known whether it does.
    perhaps: Duration,
}

impl Pauses {
    pub(crate) fn new(retry: Duration, window: Duration) -> Self {
        Self { pause: FIRST_PAUSE, likely: window, perhaps: window.min(retry / 5) }
    }

    /// How long to wait after this; `None` to give up.
    pub(crate) fn next(&mut self, trouble: &Trouble) -> Option<Duration> {
        let left = match trouble.passes() {
            Passes::Hardly => return None,
            Passes::Perhaps => self.perhaps,
            Passes::Likely => self.likely,
        };
        let pause = trouble.pause(self.pause);
        if pause > left {
            return None;
        }
        self.pause *= 3;
        self.likely = self.likely.saturating_sub(pause);
        self.perhaps = self.perhaps.saturating_sub(pause);
        Some(pause)
    }
}

/// Whether this is, by its code or its words, a matter of the node's capacity.
fn busy(refusal: &Refusal) -> bool {
    let message = refusal.message.to_lowercase();
    matches!(refusal.code, 429 | -32005 | -32016 | -32029 | -32097)
        || [
            "rate limit",
            "rate-limit",
            "rate exceeded",
            "too many requests",
            "throttle",
            "capacity",
        ]
        .iter()
        .chain(&["quota", "credits", "requests per", "compute units", "try again", "busy"])
        .any(|words| message.contains(words))
}

/// Whether this message, as geth, reth, Nethermind, Erigon, ethrex or anvil phrase it, means that an old state is gone.
fn pruned(message: &str) -> bool {
    let message = message.to_lowercase();
    ["missing trie node", "proof window", "pruned", "historical state", "state not available"]
        .iter()
        .chain(&["state is not available", "no state available", "state histories", "out of range"])
        .any(|words| message.contains(words))
}

/// What a person can do about an HTTP status.
pub(crate) fn remedy(status: u16) -> &'static str {
    match status {
        300..=399 => "give the address that it redirects to",
        401..=403 => "check the key in its URL, and what its plan allows",
        404 | 405 => "check the path of its URL",
        413 => "lower --rpc-batch",
        400..=499 => "check its URL",
        _ => "the node, or what stands before it, fails: look at it, or name another node as well",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_asked_again_and_what_stays_is_not() {
        let refused =
            |code, message: &str| Trouble::Refused(Refusal { code, message: message.into() });
        let status = |status| Trouble::Status { status, wait: None, text: String::new() };
        for trouble in [
            refused(-32000, "You exceeded your credits"),
            refused(429, "?"),
            refused(-32600, "Too Many Requests"),
            status(429),
            status(502),
            status(504),
            status(520),
            Trouble::Garbled("<html>".into()),
        ] {
            assert_eq!(trouble.passes(), Passes::Likely, "{trouble:?}");
        }
        for trouble in [refused(-32000, "?"), refused(-32603, "?"), Trouble::Away(String::new())] {
            assert_eq!(trouble.passes(), Passes::Perhaps, "{trouble:?}");
        }
        for trouble in [
            refused(-32601, "?"),
            refused(-39001, "?"),
            refused(4444, "?"),
            status(403),
            status(413),
            status(501),
            Trouble::TooLong(5),
            Trouble::Silent(Duration::ZERO),
        ] {
            assert_eq!(trouble.passes(), Passes::Hardly, "{trouble:?}");
        }
        assert!(refused(-32601, "?").is_no_such_method() && status(405).is_no_such_method());
        assert!(!refused(-32604, "Method not found").is_no_such_method());
    }
}
