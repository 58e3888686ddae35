//! Who a caller is, and whether it may do what it asks.
//!
//! * Every endpoint names who may call it ([`Access`]); there is no endpoint without.
//! * A caller is judged by its headers alone: before its body is read, and before anything it names is looked up.
//! * Tokens are held in memory and read anew every [`REFRESH`], so that strangers cost the database nothing.

use super::{
    browser::{self, Foreign, Reached},
    session::Sessions,
    tokens::{BearerToken, Kind, Role, Token, TokenId, Tokens},
};
use crate::{
    clock::Timestamp,
    config::{Auth, Config},
    database::DatabaseError,
    error::Error,
    jobs::Actor,
};
use axum::http::{
    HeaderMap,
    header::{AUTHORIZATION, ORIGIN},
};
use protocol::{ClientId, Session};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
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
pub struct Caller {
    token: Option<Arc<Token>>,
    /// If it showed a session in place of the token: when that ends.
    session: Option<u64>,
}

impl Caller {
    /// The token's id.
    pub fn token(&self) -> Option<TokenId> {
        self.token.as_ref().map(|token| token.id)
    }

    /// The only client that it may speak for.
    pub fn client(&self) -> Option<ClientId> {
        self.token.as_ref().and_then(|token| token.client)
    }

    /// As what it does is recorded.
    pub fn actor(&self) -> Actor {
        match &self.token {
            Some(token) => Actor::new(format_args!("{} ({})", token.id, token.name)),
            None => Actor::anybody(),
        }
    }

    /// As what it has taken is recorded: by the token's name, which a token that takes its place keeps.
    pub fn consumer(&self) -> Actor {
        self.token.as_ref().map_or_else(Actor::anybody, |token| Actor::new(&token.name))
    }

    /// As what it acts. Where no token is needed everybody may do everything.
    fn role(&self) -> Role {
        self.token.as_ref().map_or(Role::Operator, |token| token.role)
    }

    /// Whether it may decide.
    pub fn operates(&self) -> bool {
        self.role() == Role::Operator
    }

    /// Who it is, for its browser.
    pub fn session(&self) -> Session {
        let name = self.token.as_ref().map(|token| token.name.clone());
        // The second half is told to whoever shows the token, and never for the cookie: all ports of this host get that.
        Session { role: self.role().name().into(), name, csrf: None, expires_at: self.session }
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
    reached: Reached,
    tokens: Tokens,
    /// Of browsers, where tokens are asked for.
    sessions: Option<Sessions>,
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

impl Known {
    /// The time now: that at which the tokens were read, and how long ago that was.
    fn time(&self) -> Timestamp {
        self.now + self.read.elapsed()
    }
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
    /// [`Error`] if they cannot be read, or the key of sessions can be neither read nor made.
    pub async fn new(config: &Config, tokens: Tokens) -> Result<Self, Error> {
        let auth = config.auth;
        let sessions = match auth {
            Auth::Open => None,
            Auth::Required => Some(Sessions::open(&config.data_dir, config.tls_cert.is_some())?),
        };
        let known = known(&tokens).await?;
        if auth == Auth::Required && known.secrets.is_empty() && known.certificates.is_empty() {
            tracing::warn!(
                code = "no_tokens",
                "nobody has a token yet: make one with `l2-prover tokens create`"
            );
        }
        let trusts_loopback = auth == Auth::Open && config.listen_ip.is_loopback();
        let reached = Reached { trusts_loopback, over_tls: config.tls_cert.is_some() };
        let known = RwLock::new(known);
        Ok(Self(Arc::new(Inner { auth, reached, tokens, sessions, known })))
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the first of the tokens expires that nobody has revoked or rotated, if one does. One that has expired in the last month
    /// counts: its owner may not know.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.known().next_expiry
    }

    /// Whether a token may speak for `client`: one that is bound to a client for no other, and others for none that is bound.
    pub fn may_speak(&self, token: &Caller, client: ClientId) -> bool {
        match (&token.token, token.client()) {
            (None, _) => true,
            (_, Some(bound)) => bound == client,
            (_, None) => !self.known().bound.contains(&client),
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
        if let Err(foreign) = browser::check(headers, self.0.reached) {
            return (None, Err(foreign.into()));
        }
        let open = Ok(Caller { token: None, session: None });
        if access == Access::Public {
            return (None, open);
        }
        // Before anything that a browser adds by itself is looked at: a cookie, a certificate, that it is on this machine.
        if browser::is_of_another_origin(headers) {
            return (None, Err(Foreign::Origin.into()));
        }
        if self.0.auth == Auth::Open {
            return (None, open);
        }
        let (token, session) = match self.identify(certificate, headers) {
            Identified::Nobody => return (None, Err(Denied::Unknown)),
            // As a stranger's: whoever has the cookie alone must not use up what its owner may ask for.
            Identified::Half => return (None, Err(Foreign::Csrf.into())),
            Identified::Token(token) => (token, None),
            Identified::Session(token, expires) => (token, Some(expires)),
        };
        let may = match access {
            Access::Public | Access::Known => true,
            Access::Only(roles) => roles.contains(&token.role),
        };
        let (id, role) = (token.id, token.role);
        (
            Some(id),
            if may { Ok(Caller { token: Some(token), session }) } else { Err(Denied::Role(role)) },
        )
    }

    /// Whether a caller that was let in still would be: its token may have ended since, or its session.
    pub fn still_admits(&self, caller: &Caller) -> bool {
        let Some(token) = &caller.token else { return true };
        let known = self.known();
        let now = known.time();
        let ended = caller.session.is_some_and(|expires| now.0 >= expires);
        let of_secret = known.secrets.get(&token.id);
        let token = of_secret.or_else(|| known.certificates.get(&token.hash));
        !ended && token.is_some_and(|token| token.valid_at(now.0))
    }

    /// Signs `caller` in: the cookie for its browser, and what its page has to know. Whoever has a session, or needs none, gets no other.
    pub fn sign_in(&self, caller: &Caller, headers: &HeaderMap) -> (Option<String>, Session) {
        let mut session = caller.session();
        let (Some(sessions), Some(token), None) = (&self.0.sessions, &caller.token, caller.session)
        else {
            return (None, session);
        };
        // A certificate is shown with every request anyway.
        if token.kind != Kind::Secret {
            return (None, session);
        }
        let now = self.known().time();
        let (cookie, csrf, expires) = sessions.begin(token, now, came_over_tls(headers));
        (session.csrf, session.expires_at) = (Some(csrf), Some(expires));
        (Some(cookie), session)
    }

    /// What makes a browser forget its session.
    pub fn sign_out(&self, headers: &HeaderMap) -> Option<String> {
        self.0.sessions.as_ref().map(|sessions| sessions.end(came_over_tls(headers)))
    }

    fn identify(&self, certificate: Option<[u8; 32]>, headers: &HeaderMap) -> Identified {
        let known = self.known();
        let now = known.time();
        let valid = |token: &&Arc<Token>| token.valid_at(now.0);
        // A token that is shown counts, whatever cookie the browser adds.
        if let Some(header) = headers.get(AUTHORIZATION) {
            let of_secret = || {
                let (scheme, text) = header.to_str().ok()?.split_once(' ')?;
                let shown = BearerToken::parse(text.trim())?;
                let token = known.secrets.get(&shown.id)?;
                // In constant time: how much of a hash is right must not be told by a clock.
                let right = bool::from(token.hash.ct_eq(&shown.hash()));
                (right && scheme.eq_ignore_ascii_case("bearer")).then_some(token)
            };
            let token = of_secret().filter(valid).cloned();
            return token.map_or(Identified::Nobody, Identified::Token);
        }
        let mut half = Identified::Nobody;
        for (sessions, shown) in
            self.0.sessions.iter().flat_map(|of| of.shown(headers).map(move |shown| (of, shown)))
        {
            let token = known.secrets.get(&shown.token).filter(valid);
            let Some(token) = token.filter(|token| sessions.is_good(&shown, token, now)) else {
                continue;
            };
            // Programs on other ports of this host have the cookie too, but not what the page got that signed in.
            if sessions.has_csrf(&shown, headers) {
                return Identified::Session(token.clone(), shown.expires());
            }
            half = Identified::Half;
        }
        let certificate = certificate.and_then(|it| known.certificates.get(&it)).filter(valid);
        certificate.map_or(half, |token| Identified::Token(token.clone()))
    }
}

/// Whose token is shown.
enum Identified {
    Nobody,
    /// Itself, or a certificate that counts as one.
    Token(Arc<Token>),
    /// By a session, which ends then.
    Session(Arc<Token>, u64),
    /// By a session's cookie, without what goes with it.
    Half,
}

/// Whether a browser reached this server, or a proxy before it, over TLS.
fn came_over_tls(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
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
