//! Tokens: what callers show, and what the database keeps of it.
//!
//! * A secret is shown once, when it is made; the database has its hash.
//! * A token is revoked, never deleted: what it did can be told later.
//! * Whoever may write to the database may do anything anyway, so tokens are managed there and not over HTTP.

use crate::{
    artifacts::Sharing,
    clock::{Timestamp, millis, wall},
    config::Config,
    data_folder::{self, lock},
    database::{
        Database, DatabaseError, DatabaseUrl, Schema,
        columns::{Col, Column, named},
    },
    error::Error,
};
use alloy_primitives::hex;
use protocol::ClientId;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use sqlx::{any::AnyRow, error::BoxDynError};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// What a caller may do. See [`crate::http::endpoints::endpoints`] for what exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes jobs and hands proofs in.
    Client,
    /// Stores inputs, and sees what becomes of the jobs on them. Batches themselves come from the node that the server
    /// follows; no endpoint takes one.
    Producer,
    /// Fetches proofs.
    Consumer,
    /// Decides about jobs and clients.
    Operator,
    /// Looks.
    Viewer,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Client, Self::Producer, Self::Consumer, Self::Operator, Self::Viewer];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }
}

/// A token's name for people: no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(u64);

impl TokenId {
    /// As a number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.len() == 16 && text.bytes().all(|c| c.is_ascii_hexdigit());
        hex.then(|| u64::from_str_radix(text, 16).ok().map(Self))
            .flatten()
            .ok_or_else(|| "a token's id is 16 hexadecimal digits, see `tokens list`".into())
    }
}

/// What a caller shows: `l2p_ID_SECRET`. It is neither logged nor compared as text.
#[derive(Clone)]
pub struct BearerToken {
    pub(crate) id: TokenId,
    secret: [u8; 32],
}

impl BearerToken {
    fn new(id: TokenId) -> Self {
        Self { id, secret: rand::random() }
    }

    /// Reads what [`text`](Self::text) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, digits) = text.strip_prefix("l2p_")?.split_once('_')?;
        Some(Self { id: id.parse().ok()?, secret: secret_of(digits)? })
    }

    /// What its owner has to keep.
    pub fn text(&self) -> String {
        format!("l2p_{}_{}", self.id, hex::encode(self.secret))
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }
}

/// A secret of 64 lower-case hexadecimal digits.
fn secret_of(digits: &str) -> Option<[u8; 32]> {
    let lower_hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if digits.len() != 64 || !digits.bytes().all(lower_hex) {
        return None;
    }
    let mut secret = [0; 32];
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(secret)
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({})", self.id)
    }
}

/// What proves that a caller is a token's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It knows the secret.
    Secret,
    /// It has the key of a client certificate.
    Certificate,
}

impl Kind {
    /// As it is written.
    const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Certificate => "certificate",
        }
    }
}

/// A token, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What people call it. Not unique: a rotated token keeps its name.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// The only client that its owner may speak for.
    pub client: Option<ClientId>,
    /// How its owner proves to be.
    pub kind: Kind,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// When it was revoked, in milliseconds since the Unix epoch.
    pub revoked_at: Option<u64>,
    #[serde(skip)]
    pub(crate) hash: [u8; 32],
}

impl Token {
    /// Whether it opens anything at `now`, in milliseconds since the Unix epoch.
    pub fn valid_at(&self, now: u64) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What people call it: 1 to 64 printable ASCII characters.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// The only client that its owner may speak for; only of role [`Role::Client`].
    pub client: Option<ClientId>,
    /// A file with a client certificate in PEM, in place of a secret.
    pub certificate: Option<PathBuf>,
    /// Ends after so long.
    pub lifetime: Option<Duration>,
}

/// Why tokens cannot be managed so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The name cannot be used.
    #[error("a token's name has 1 to 64 printable ASCII characters")]
    Name,
    /// Only clients can be bound to a client id.
    #[error("only a token of role client can be bound to a client, not one of role {}", .0.name())]
    Bound(Role),
    /// There is no such token.
    #[error("there is no token {0}: see `tokens list`")]
    Unknown(TokenId),
    /// The token ended.
    #[error("token {0} is revoked or expired: make a new one")]
    Ended(TokenId),
    /// Another token has the certificate.
    #[error("the certificate belongs to token {0} already: revoke that first")]
    Taken(TokenId),
    /// A token goes on as what it is.
    #[error("token {0} has a {1}: {2}")]
    OtherKind(TokenId, &'static str, &'static str),
    /// The file has no certificate.
    #[error("{} has no certificate in PEM: {detail}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

type Result<T, E = TokenError> = std::result::Result<T, E>;

/// The tokens of a server.
#[derive(Clone, Debug)]
pub struct Tokens(Database);

impl Tokens {
    /// Opens the tokens of the server in `data_dir`, whose jobs are in `database` or in the folder. The server may run. A
    /// database that is not there yet is made; one that others may be using is left at the schema it has.
    ///
    /// # Errors
    /// Anything that cannot be opened.
    pub async fn open(
        data_dir: &Path,
        database: Option<&DatabaseUrl>,
    ) -> std::result::Result<Self, Error> {
        let Some(url) = database else {
            // A server that runs has brought the database to its own version, which need not be ours.
            let (schema, _lock) = match lock(data_dir, Sharing::Alone) {
                Ok(lock) => (Schema::Migrated, Some(lock)),
                Err(Error::FolderInUse(_)) => (Schema::AsItIs, None),
                Err(error) => return Err(error),
            };
            return Ok(Self(Database::sqlite(&data_dir.join(data_folder::JOBS), schema).await?));
        };
        Config { database: Some(url.clone()), ..Config::default() }.check()?;
        Ok(Self(Database::postgres(url, Schema::New).await?))
    }

    pub(crate) fn of(database: &Database) -> Self {
        Self(database.clone())
    }

    /// Makes a token. Returns what its owner has to keep, unless that is a certificate.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with `new`.
    pub async fn create(&self, new: &NewToken) -> Result<(Token, Option<BearerToken>)> {
        if !(1..=64).contains(&new.name.len())
            || !new.name.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        {
            return Err(TokenError::Name);
        }
        if new.client.is_some() && new.role != Role::Client {
            return Err(TokenError::Bound(new.role));
        }
        let now = self.now().await?;
        let (mut token, shown) = fresh(new.certificate.as_deref(), now, new.lifetime)?;
        token.name.clone_from(&new.name);
        (token.role, token.client) = (new.role, new.client);
        self.not_taken(&token, now).await?;
        let mut tx = self.0.begin().await?;
        self.insert(&mut tx, &token).await?;
        self.0.ok(tx.commit().await)?;
        Ok((token, shown))
    }

    /// All tokens, the oldest first.
    ///
    /// # Errors
    /// [`TokenError::Database`].
    pub async fn list(&self) -> Result<Vec<Token>> {
        Ok(self.all().await?)
    }

    /// The time that decides what has expired: the wall clock's, or that of a database which several servers share. The time of
    /// the jobs may be ahead of it, if the wall clock once was.
    ///
    /// # Errors
    /// [`DatabaseError`] if the database fails.
    pub async fn now(&self) -> Result<Timestamp, DatabaseError> {
        match self.0.shared() {
            Some(_) => self.0.now().await,
            None => Ok(wall()),
        }
    }

    pub(crate) async fn all(&self) -> Result<Vec<Token>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT id, name, role, client, kind, hash, created_at, expires_at, revoked_at FROM tokens
             ORDER BY created_at, id",
        );
        let rows = self.0.ok(rows.fetch_all(self.0.readers()).await)?;
        rows.iter().map(|row| self.token(row)).collect()
    }

    /// Makes a token that is like `id` but for its secret or certificate. The old one ends after `grace`, if not before.
    ///
    /// # Errors
    /// [`TokenError::Unknown`], [`TokenError::Ended`], [`TokenError::OtherKind`].
    pub async fn rotate(
        &self,
        id: TokenId,
        certificate: Option<&Path>,
        lifetime: Option<Duration>,
        grace: Duration,
    ) -> Result<(Token, Option<BearerToken>)> {
        let now = self.now().await?;
        let old = self.one(id).await?;
        if !old.valid_at(now.0) {
            return Err(TokenError::Ended(id));
        }
        match (old.kind, certificate) {
            (Kind::Certificate, None) => {
                return Err(TokenError::OtherKind(id, "certificate", "name the new one"));
            }
            (Kind::Secret, Some(_)) => {
                return Err(TokenError::OtherKind(id, "secret", "name no certificate"));
            }
            _ => {}
        }
        let (new, shown) = fresh(certificate, now, lifetime)?;
        let new = Token { name: old.name, role: old.role, client: old.client, ..new };
        self.not_taken(&new, now).await?;
        let ends = (now + grace).0.min(old.expires_at.unwrap_or(u64::MAX));
        let mut tx = self.0.begin().await?;
        self.insert(&mut tx, &new).await?;
        let end = sqlx::query("UPDATE tokens SET expires_at = $2 WHERE id = $1");
        let end = end.bind(Col(id)).bind(Col(ends)).execute(&mut *tx).await;
        self.0.ok(end)?;
        self.0.ok(tx.commit().await)?;
        Ok((new, shown))
    }

    /// Ends a token. Servers that run hear of it within [`REFRESH`](super::gate::REFRESH).
    ///
    /// # Errors
    /// [`TokenError::Unknown`].
    pub async fn revoke(&self, id: TokenId) -> Result<Token> {
        let now = self.now().await?;
        let mut tx = self.0.begin().await?;
        let end =
            sqlx::query("UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL");
        let end = end.bind(Col(id)).bind(Col(now)).execute(&mut *tx).await;
        self.0.ok(end)?;
        self.0.ok(tx.commit().await)?;
        self.one(id).await
    }

    /// Closes the database.
    pub async fn close(self) {
        self.0.close().await;
    }

    async fn one(&self, id: TokenId) -> Result<Token> {
        let all = self.all().await?;
        all.into_iter().find(|token| token.id == id).ok_or(TokenError::Unknown(id))
    }

    async fn not_taken(&self, new: &Token, now: Timestamp) -> Result<()> {
        let same = |token: &&Token| token.hash == new.hash && token.valid_at(now.0);
        match self.all().await?.iter().find(same) {
            Some(token) => Err(TokenError::Taken(token.id)),
            None => Ok(()),
        }
    }

    async fn insert(
        &self,
        tx: &mut crate::database::Tx,
        token: &Token,
    ) -> Result<(), DatabaseError> {
        let insert = sqlx::query(
            "INSERT INTO tokens (id, name, role, client, kind, hash, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(Col(token.id))
        .bind(token.name.clone())
        .bind(Col(token.role))
        .bind(Col(token.client))
        .bind(Col(token.kind))
        .bind(Col(token.hash))
        .bind(Col(token.created_at))
        .bind(Col(token.expires_at));
        self.0.ok(insert.execute(&mut **tx).await).map(drop)
    }

    fn token(&self, row: &AnyRow) -> Result<Token, DatabaseError> {
        Ok(Token {
            id: self.0.get(row, "id")?,
            name: self.0.get(row, "name")?,
            role: self.0.get(row, "role")?,
            client: self.0.get(row, "client")?,
            kind: self.0.get(row, "kind")?,
            created_at: self.0.get(row, "created_at")?,
            expires_at: self.0.get(row, "expires_at")?,
            revoked_at: self.0.get(row, "revoked_at")?,
            hash: self.0.get(row, "hash")?,
        })
    }
}

impl Column for TokenId {
    type Raw = i64;

    fn write(&self) -> i64 {
        self.0.write()
    }

    fn read(raw: i64) -> std::result::Result<Self, BoxDynError> {
        u64::read(raw).map(Self)
    }
}

named! {
    Role: Role::ALL, "a role";
    Kind: [Kind::Secret, Kind::Certificate], "a kind of token";
}

/// A token with a new id and a new secret, or the certificate in the file.
fn fresh(
    certificate: Option<&Path>,
    now: Timestamp,
    lifetime: Option<Duration>,
) -> Result<(Token, Option<BearerToken>)> {
    let id = TokenId(rand::random());
    let (kind, hash, shown) = match certificate {
        Some(path) => {
            let certificate = CertificateDer::from_pem_file(path).map_err(|error| {
                TokenError::Certificate { path: path.into(), detail: error.to_string() }
            })?;
            (Kind::Certificate, fingerprint(&certificate), None)
        }
        None => {
            let shown = BearerToken::new(id);
            (Kind::Secret, shown.hash(), Some(shown))
        }
    };
    let token = Token {
        id,
        name: String::new(),
        role: Role::Viewer,
        client: None,
        kind,
        created_at: now.0,
        expires_at: lifetime.map(|lifetime| now.0.saturating_add(millis(lifetime))),
        revoked_at: None,
        hash,
    };
    Ok((token, shown))
}

/// What a certificate is known by.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_shown_and_its_debug_text_has_no_secret() {
        let shown = BearerToken::new(TokenId(7));
        let text = shown.text();
        assert_eq!((text.len(), &text[..21]), (85, "l2p_0000000000000007_"));
        assert_eq!(BearerToken::parse(&text).unwrap().hash(), shown.hash());
        assert_eq!(format!("{shown:?}"), "BearerToken(0000000000000007)");
        for wrong in ["", "l2p_", "l2p_07_00", &text[1..], &text[..84], &text.to_uppercase()] {
            assert!(BearerToken::parse(wrong).is_none(), "{wrong}");
        }
    }
}
