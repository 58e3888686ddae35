//! Who decides about jobs and clients, as it is recorded.

use std::{fmt, sync::Arc};

/// Whoever does something that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(Arc<str>);

impl Actor {
    /// Somebody, as it is recorded: a token's id and name.
    pub fn new(who: impl fmt::Display) -> Self {
        Self(who.to_string().into())
    }

    /// Somebody on a server that needs no token.
    pub fn anybody() -> Self {
        Self::new("anybody (no token was needed)")
    }

    /// The server itself.
    pub fn server() -> Self {
        Self::new("the server")
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
