//! Sessions: what a browser shows in place of a token, once its user has signed in with one.
//!
//! * The cookie names a token and an end, and is sealed with a key that lies in the server's folder. Whoever reads the database, or a backup
//!   of it, cannot make one; whoever steals one does not have the token, and has it until its end at most.
//! * A session ends with its token. Nothing is kept for it, so it outlives a restart.
//! * The cookie alone opens nothing. Browsers send it to every port of the host, so other programs there read it. Each request needs the
//!   second half too, in a header: it is told once, in answer to the token, and kept where only pages of this very origin can read it.
//! * Other programs of the host can set cookies as well. A request may show several of our name; the one that is good counts.

use super::tokens::{Token, TokenId};
use crate::{clock::Timestamp, error::Error};
use alloy_primitives::hex;
use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use cookie::{Cookie, SameSite};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::{fmt, fs, io, io::Write as _, path::Path, time::Duration};
use subtle::ConstantTimeEq;

/// After so long a user has to sign in again.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// The header with the second half of a session.
pub(crate) const CSRF: &str = "x-csrf-token";

/// So many cookies of ours are looked at: more than a browser keeps for a host.
const MOST_SHOWN: usize = 256;

/// Name of the file with the key, in a server's folder.
const KEY: &str = "session.key";

/// Seals sessions and reads them.
pub(crate) struct Sessions {
    key: [u8; 32],
    /// Differs from that of another server on the same host: cookies do not know ports.
    name: String,
    /// The server speaks TLS itself, so no browser sends it a cookie that was set without.
    secure: bool,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A cookie of ours, as a request shows it. Whether it is good is not known yet.
pub(crate) struct ShownSession {
    pub(crate) token: TokenId,
    expires: u64,
    text: String,
}

impl Sessions {
    /// Of the server in `folder`, whose key is made there if there is none.
    pub(crate) fn open(folder: &Path, secure: bool) -> Result<Self, Error> {
        let key = key(folder).map_err(|source| Error::Folder { path: folder.into(), source })?;
        Ok(Self::new(key, secure))
    }

    fn new(key: [u8; 32], secure: bool) -> Self {
        let name = hex::encode(&Sha256::digest(key)[..4]);
        Self { key, name: format!("l2p_{name}"), secure }
    }

    /// A cookie for the owner of `token`, and when the session ends. `secure` if the user's browser came over TLS, here or at a proxy.
    pub(crate) fn begin(
        &self,
        token: &Token,
        now: Timestamp,
        secure: bool,
    ) -> (String, String, u64) {
        let expires = (now + LIFETIME).0.min(token.expires_at.unwrap_or(u64::MAX));
        let text = format!("{}-{expires}-{}", token.id, hex::encode(self.seal(token, expires)));
        let csrf = self.csrf(&text);
        let seconds = Timestamp(expires).after(now).as_secs();
        let cookie = self.cookie(text, secure, seconds);
        (cookie, csrf, expires)
    }

    /// What makes a browser forget its session.
    pub(crate) fn end(&self, secure: bool) -> String {
        self.cookie(String::new(), secure, 0)
    }

    fn cookie(&self, text: String, secure: bool, seconds: u64) -> String {
        let secure = secure || self.secure;
        let name = if secure { format!("__Host-{}", self.name) } else { self.name.clone() };
        let cookie = Cookie::build((name, text)).path("/").http_only(true).secure(secure);
        let age = cookie::time::Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
        cookie.same_site(SameSite::Strict).max_age(age).build().to_string()
    }

    /// The sessions that a request shows, whoever set them.
    pub(crate) fn shown(&self, headers: &HeaderMap) -> impl Iterator<Item = ShownSession> {
        let names =
            [Some(format!("__Host-{}", self.name)), (!self.secure).then(|| self.name.clone())];
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let cookies: Vec<_> = lines.flat_map(Cookie::split_parse).filter_map(Result::ok).collect();
        let of_name = move |name: String| {
            let ours = cookies.iter().filter(|it| it.name() == name);
            ours.filter_map(|it| ShownSession::read(it.value())).collect::<Vec<_>>()
        };
        names.into_iter().flatten().flat_map(of_name).take(MOST_SHOWN)
    }

    /// Whether this server made the session, for this token, and it has not ended.
    pub(crate) fn is_good(&self, shown: &ShownSession, token: &Token, now: Timestamp) -> bool {
        let seal = hex::encode(self.seal(token, shown.expires));
        let right = format!("{}-{}-{seal}", token.id, shown.expires);
        bool::from(right.as_bytes().ct_eq(shown.text.as_bytes())) && now.0 < shown.expires
    }

    /// Whether a request has the second half too.
    pub(crate) fn has_csrf(&self, shown: &ShownSession, headers: &HeaderMap) -> bool {
        let sent = headers.get(CSRF).map_or(&[][..], HeaderValue::as_bytes);
        bool::from(self.csrf(&shown.text).as_bytes().ct_eq(sent))
    }

    fn seal(&self, token: &Token, expires: u64) -> [u8; 32] {
        let (id, end) = (token.id.number().to_be_bytes(), expires.to_be_bytes());
        self.mac(&[b"session", &id, &end, &token.hash])
    }

    fn csrf(&self, text: &str) -> String {
        hex::encode(self.mac(&[b"csrf", text.as_bytes()]))
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl ShownSession {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let (token, expires) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { token, expires, text: text.to_owned() })
    }

    /// When it ends.
    pub(crate) fn expires(&self) -> u64 {
        self.expires
    }
}

/// The key in `folder`, which only the server's user can read.
fn key(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join(KEY);
    let read = || -> io::Result<[u8; 32]> {
        let bytes = fs::read(&path)?;
        bytes.try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{KEY} has not 32 bytes: remove it"))
        })
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&rand::random::<[u8; 32]>())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(&path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        // Another server that shares the folder may have been first.
        _ => read(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tokens::{Kind, Role};

    fn token(id: &str) -> Token {
        Token {
            id: id.parse().unwrap(),
            name: "someone".into(),
            role: Role::Operator,
            client: None,
            kind: Kind::Secret,
            created_at: 0,
            expires_at: None,
            revoked_at: None,
            hash: [7; 32],
        }
    }

    fn with(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let pair = cookie.split(';').next().unwrap();
        headers.insert(COOKIE, format!("theme=dark; {pair}").parse().unwrap());
        headers
    }

    #[test]
    fn a_session_is_good_for_its_token_until_its_end_and_nothing_else_is() {
        let (sessions, ours) = (Sessions::new([1; 32], false), token("00000000000000aa"));
        let now = Timestamp(1_000);
        let (cookie, csrf, expires) = sessions.begin(&ours, now, false);
        assert_eq!(expires, 1_000 + 12 * 3_600_000);
        let shown = sessions.shown(&with(&cookie)).next().unwrap();
        assert_eq!(shown.token, ours.id);
        assert!(sessions.is_good(&shown, &ours, now));
        assert!(!sessions.is_good(&shown, &ours, Timestamp(expires)), "it has ended");
        assert!(!sessions.is_good(&shown, &token("00000000000000ab"), now), "another token");
        let other = Token { hash: [8; 32], ..ours.clone() };
        assert!(!sessions.is_good(&shown, &other, now), "another secret");
        let later = cookie.replacen(&expires.to_string(), &(expires + 1).to_string(), 1);
        let later = sessions.shown(&with(&later)).next().unwrap();
        assert!(!sessions.is_good(&later, &ours, now), "its end was put off");
        let elsewhere = Sessions { key: [2; 32], ..Sessions::new([1; 32], false) };
        assert!(!elsewhere.is_good(&shown, &ours, now), "another server's key");

        let mut headers = with(&cookie);
        assert!(!sessions.has_csrf(&shown, &headers));
        headers.insert(CSRF, csrf.parse().unwrap());
        assert!(sessions.has_csrf(&shown, &headers));
        assert!(!elsewhere.has_csrf(&shown, &headers));
        // It ends with a token that ends sooner.
        let short = Token { expires_at: Some(5_000), ..ours };
        assert_eq!(sessions.begin(&short, now, false).2, 5_000);
    }

    #[test]
    fn a_cookie_can_be_read_by_no_script_and_goes_to_no_other_site() {
        let (plain, tls) = (Sessions::new([1; 32], false), Sessions::new([1; 32], true));
        let ours = token("00000000000000aa");
        let text = |cookie: &str| {
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            (pair.split('=').next().unwrap().to_owned(), attributes.to_owned())
        };
        let (name, attributes) = text(&plain.begin(&ours, Timestamp(0), false).0);
        assert_eq!(attributes, "HttpOnly; SameSite=Strict; Path=/; Max-Age=43200");
        for cookie in
            [plain.begin(&ours, Timestamp(0), true).0, tls.begin(&ours, Timestamp(0), false).0]
        {
            let (secure, attributes) = text(&cookie);
            assert_eq!(secure, format!("__Host-{name}"));
            assert_eq!(attributes, "HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=43200");
        }
        assert!(plain.end(false).ends_with("Max-Age=0"));
        // Under TLS one that may have been set without it is not looked at.
        let unsafe_one = plain.begin(&ours, Timestamp(0), false).0;
        assert_eq!(tls.shown(&with(&unsafe_one)).count(), 0);
        assert_eq!(plain.shown(&with(&unsafe_one)).count(), 1);
    }

    #[test]
    fn the_key_stays_and_is_the_servers_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let first = key(folder.path()).unwrap();
        assert_eq!(key(folder.path()).unwrap(), first);
        let mode = fs::metadata(folder.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join(KEY), b"short").unwrap();
        assert!(key(folder.path()).is_err());
    }
}
