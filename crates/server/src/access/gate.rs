//! Who a caller is, and whether it may do what it asks.
//!
//! * Every endpoint names who may call it ([`Access`]); there is no endpoint without.
//! * A caller is judged by its headers alone: before its body is read, and before anything it names is looked up.
//! * Tokens are held in memory and read anew every [`REFRESH`], so that strangers cost the database nothing.

use super::{
    browser::{self, Foreign},
    tokens::{BearerToken, Kind, Role, Token, TokenId, Tokens},
};
use crate::{
    clock::Timestamp,
    config::{Auth, Config},
    database::DatabaseError,
    jobs::Actor,
};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use protocol::ClientId;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

/// A token made or revoked elsewhere counts after so long at the latest.
pub const REFRESH: Duration = Duration::from_secs(1);

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a token.
    Public,
    /// Whoever has a token.
    Known,
    /// Whoever has a token of one of these roles.
    Only(&'static [Role]),
}

/// A caller that has been let in: the token that it showed, if it needed one.
#[derive(Clone, Debug)]
pub struct Caller(Option<Arc<Token>>);

impl Caller {
    /// The token's id.
    pub fn token(&self) -> Option<TokenId> {
        self.0.as_ref().map(|token| token.id)
    }

    /// The only client that it may speak for.
    pub fn client(&self) -> Option<ClientId> {
        self.0.as_ref().and_then(|token| token.client)
    }

    /// As what it does is recorded.
    pub fn actor(&self) -> Actor {
        match &self.0 {
            Some(token) => Actor::new(format_args!("{} ({})", token.id, token.name)),
            None => Actor::anybody(),
        }
    }

    /// As what it has taken is recorded: by the token's name, which a token that takes its place keeps.
    pub fn consumer(&self) -> Actor {
        self.0.as_ref().map_or_else(Actor::anybody, |token| Actor::new(&token.name))
    }
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It shows nothing that opens anything. Why is not said.
    #[error(
        "this server wants a valid token: `Authorization: Bearer l2p_…`, or a registered client certificate"
    )]
    Unknown,
    /// It is somebody, but may not do this.
    #[error("a token of role {} may not do this", .0.name())]
    Role(Role),
    /// A web page sent it, or may have.
    #[error(transparent)]
    Foreign(#[from] Foreign),
}

/// Lets callers in. Clones share everything.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    auth: Auth,
    /// Only this machine can reach the server, and needs no token.
    trusts_loopback: bool,
    tokens: Tokens,
    known: RwLock<Known>,
}

#[derive(Debug)]
struct Known {
    /// By id, and certificates by their hash.
    secrets: HashMap<TokenId, Arc<Token>>,
    certificates: HashMap<[u8; 32], Arc<Token>>,
    now: Timestamp,
    read: Instant,
    next_expiry: Option<Timestamp>,
    /// Clients for which only the holders of certain tokens may speak.
    bound: HashSet<ClientId>,
}

/// A token that has ended for so long is not missed any more.
const MISSED: Duration = Duration::from_secs(30 * 86_400);

/// See [`Gate::next_expiry`]. A rotated token has another of its name and role that ends later.
fn next_expiry(tokens: &[Token], now: Timestamp) -> Option<Timestamp> {
    let mut ends: HashMap<(&str, &str), u64> = HashMap::new();
    for token in tokens.iter().filter(|token| token.revoked_at.is_none()) {
        let end = ends.entry((&token.name, token.role.name())).or_default();
        *end = (*end).max(token.expires_at.unwrap_or(u64::MAX));
    }
    let ends = ends.into_values().filter(|end| *end != u64::MAX).map(Timestamp);
    ends.filter(|end| now.after(*end) < MISSED).min()
}

impl Gate {
    /// A gate for the holders of `tokens`, as `config` has it.
    ///
    /// # Errors
    /// [`DatabaseError`] if they cannot be read.
    pub async fn new(config: &Config, tokens: Tokens) -> Result<Self, DatabaseError> {
        let auth = config.auth;
        let known = known(&tokens).await?;
        if auth == Auth::Required && known.secrets.is_empty() && known.certificates.is_empty() {
            tracing::warn!(
                code = "no_tokens",
                "nobody has a token yet: make one with `l2-prover tokens create`"
            );
        }
        let trusts_loopback = auth == Auth::Open && config.listen_ip.is_loopback();
        Ok(Self(Arc::new(Inner { auth, trusts_loopback, tokens, known: RwLock::new(known) })))
    }

    /// When the first of the tokens expires that nobody has revoked or rotated, if one does. One that has expired in the last month
    /// counts: its owner may not know.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).next_expiry
    }

    /// Whether a token may speak for `client`: one that is bound to a client for no other, and others for none that is bound.
    pub fn may_speak(&self, token: &Caller, client: ClientId) -> bool {
        match (&token.0, token.client()) {
            (None, _) => true,
            (_, Some(bound)) => bound == client,
            (_, None) => {
                let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
                !known.bound.contains(&client)
            }
        }
    }

    /// Reads the tokens anew, until `stopping`. While the database fails, those known last count.
    pub async fn run(self, stopping: CancellationToken) {
        let mut failing = false;
        while stopping.run_until_cancelled(tokio::time::sleep(REFRESH)).await.is_some() {
            match known(&self.0.tokens).await {
                Ok(known) => {
                    failing = false;
                    *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                }
                Err(error) if !failing => {
                    failing = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        code = "tokens_unread",
                        error,
                        "tokens could not be read; those known last count"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Whose token a caller shows, if it needs one, and whether it may do this. `certificate` is the SHA-256 of the
    /// certificate that it showed to TLS.
    pub fn admit(
        &self,
        access: Access,
        certificate: Option<[u8; 32]>,
        headers: &HeaderMap,
    ) -> (Option<TokenId>, Result<Caller, Denied>) {
        if let Err(foreign) = browser::check(headers, self.0.trusts_loopback) {
            return (None, Err(foreign.into()));
        }
        let open = Ok(Caller(None));
        if self.0.auth == Auth::Open || access == Access::Public {
            return (None, open);
        }
        let Some(token) = self.identify(certificate, headers) else {
            return (None, Err(Denied::Unknown));
        };
        let may = match access {
            Access::Public | Access::Known => true,
            Access::Only(roles) => roles.contains(&token.role),
        };
        let (id, role) = (token.id, token.role);
        (Some(id), if may { Ok(Caller(Some(token))) } else { Err(Denied::Role(role)) })
    }

    fn identify(&self, certificate: Option<[u8; 32]>, headers: &HeaderMap) -> Option<Arc<Token>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let now = known.now + known.read.elapsed();
        let token = match headers.get(AUTHORIZATION) {
            Some(header) => {
                let (scheme, text) = header.to_str().ok()?.split_once(' ')?;
                let shown = BearerToken::parse(text.trim())?;
                let token = known.secrets.get(&shown.id)?;
                // In constant time: how much of a hash is right must not be told by a clock.
                let right = bool::from(token.hash.ct_eq(&shown.hash()));
                (right && scheme.eq_ignore_ascii_case("bearer")).then_some(token)
            }
            None => known.certificates.get(&certificate?),
        };
        token.filter(|token| token.valid_at(now.0)).cloned()
    }
}

async fn known(tokens: &Tokens) -> Result<Known, DatabaseError> {
    let (all, now) = (tokens.all().await?, tokens.now().await?);
    let next_expiry = next_expiry(&all, now);
    let live = all.iter().filter(|token| token.valid_at(now.0));
    let bound = live.filter_map(|token| token.client).collect();
    let (mut secrets, mut certificates) = (HashMap::new(), HashMap::new());
    for token in all.into_iter().map(Arc::new) {
        match token.kind {
            Kind::Secret => drop(secrets.insert(token.id, token)),
            // One that ended may have been registered again.
            Kind::Certificate if token.valid_at(now.0) => {
                certificates.insert(token.hash, token);
            }
            Kind::Certificate => {}
        }
    }
    Ok(Known { secrets, certificates, now, read: Instant::now(), next_expiry, bound })
}
