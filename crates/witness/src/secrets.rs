//! What of a node's URL may be a key, and texts without it: what a node or a gateway says may repeat the URL.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{Engine as _, engine::general_purpose};
use reqwest::Url;
use std::fmt::Write as _;

/// How much of a text of the node's is quoted, in characters.
const QUOTED: usize = 300;
/// A part of the URL that is as long as this may be a key.
const KEY: usize = 6;
/// A user name or a password may be shorter.
const WORD: usize = 4;
/// What stands in the place of a secret.
const HIDDEN: &str = "…";

/// Everything in a URL beside scheme, host and port that may be a secret, in the forms in which it may be repeated.
#[derive(Clone, Debug)]
pub struct Secrets(AhoCorasick);

impl Secrets {
    /// Those of a URL.
    pub fn of(url: &Url) -> Self {
        let mut without = url.clone();
        // The HTTP client leaves user name and password out when it quotes the URL.
        let _ = (without.set_username(""), without.set_password(None));
        let rest = without.as_str().strip_prefix(&url.origin().ascii_serialization());
        let mut found: Vec<String> = Vec::new();
        found.extend(rest.map(|rest| rest.trim_start_matches('/').to_owned()));
        found.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
        found.extend(url.query().map(str::to_owned));
        for (name, value) in url.query_pairs() {
            found.extend([name.into_owned(), value.into_owned()]);
        }
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        let basic = format!("{user}:{}", password.as_deref().unwrap_or_default());
        let shortest = |text: &String, length| text.chars().count() >= length;
        found.retain(|text| shortest(text, KEY));
        if basic.len() > 1 {
            found.extend(
                [general_purpose::STANDARD, general_purpose::URL_SAFE]
                    .map(|form| form.encode(&basic)),
            );
        }
        let words = [Some(user), password].into_iter().flatten();
        found.extend(words.filter(|word| shortest(word, WORD)));
        for at in 0..found.len() {
            let (plain, encoded) = (decoded(&found[at]), encoded(&found[at]));
            // As some encoders of JSON write it.
            let escaped = [&found[at], &plain].map(|text| text.replace('/', "\\/"));
            found.extend(escaped.into_iter().chain([plain, encoded]));
        }
        found.retain(|text| shortest(text, WORD));
        // Where one is the beginning of another, the longer one is meant.
        let searched = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(true)
            .build(found);
        Self(searched.expect("a URL is short"))
    }

    /// Whether there is a secret in this text.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The text without the secrets.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let mut redacted = String::with_capacity(text.len());
        self.0.replace_all_with(text, &mut redacted, |_, _, into| {
            into.push_str(HIDDEN);
            true
        });
        redacted
    }

    /// The beginning of a text of the node's, without control characters and without the secrets.
    pub fn quote(&self, text: &str) -> String {
        let redacted = self.redacted(text);
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let mut short: String = redacted.chars().take(QUOTED).map(plain).collect();
        if redacted.chars().nth(QUOTED).is_some() {
            short.push('…');
        }
        short
    }

    /// The beginning of a body, likewise.
    pub(crate) fn quote_body(&self, body: &[u8]) -> String {
        // A secret is hidden as a whole, also where the beginning ends within it.
        let read = body.len().min(4 * QUOTED + self.0.max_pattern_len());
        let text = String::from_utf8_lossy(&body[..read]);
        let end = text.floor_char_boundary(4 * QUOTED);
        let within = self.0.find_iter(&*text).find(|found| found.range().contains(&end));
        self.quote(text[..within.map_or(end, |found| found.end())].trim())
    }
}

/// Without percent-encoding.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let code = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(code) => {
                plain.push(code);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// With everything percent-encoded that may be.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in decoded(text).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into())
            }
            byte => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(url: &str) -> Secrets {
        Secrets::of(&url.parse().unwrap())
    }

    #[test]
    fn what_may_be_a_key_is_never_quoted_in_whatever_form() {
        for (url, said, hidden) in [
            (
                "http://user:word@h/v3/0123456789abcdef?key=secretsecret",
                "0123456789abcdef at /v3/0123456789abcdef?key=secretsecret, or secretsecret, user:word",
                &["0123456789abcdef", "secret", "word", "user"][..],
            ),
            // One is the beginning of another.
            (
                "http://alice:alice1234567@h/",
                "alice1234567, YWxpY2U6YWxpY2UxMjM0NTY3",
                &["1234567", "YWxp"],
            ),
            (
                "http://h/projects1/projects1-KEYKEY99",
                "/projects1/projects1-KEYKEY99 or projects1-KEYKEY99",
                &["KEYKEY"],
            ),
            // Percent-encoded, decoded, in capitals.
            (
                "http://bob:p%40sswordXYZ@h/",
                "p@sswordXYZ p%40sswordXYZ P@SSWORDXYZ",
                &["ssword", "SSWORD"],
            ),
            (
                "http://h/v3/abcdef%2F12345678",
                "abcdef/12345678 abcdef%2f12345678 abcdef\\/12345678",
                &["12345678"],
            ),
            // A name without a value, and a short one.
            ("http://h/v2/?SECRETKEYabcdef12", "no SECRETKEYabcdef12 here", &["SECRET"]),
            ("http://h/v3/short12", "short12 and /v3/short12", &["short12"]),
        ] {
            let quoted = secrets(url).quote(said);
            for secret in hidden {
                assert!(!quoted.contains(secret), "{url}: {quoted}");
            }
            assert!(secrets(url).are_in(said));
        }
    }

    #[test]
    fn a_key_is_hidden_where_a_body_is_cut_within_it() {
        let url = "http://h/v3/0123456789abcdefghijklmnopqrstuvwxyz";
        let said = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(100);
        let quoted = secrets(url).quote_body(said.as_bytes());
        assert!(quoted.chars().all(|c| c == '…'), "{quoted}");
    }

    #[test]
    fn what_is_too_short_for_a_key_stays() {
        for url in ["http://h", "http://h/1", "http://h/e", "http://h/v3"] {
            let said = r#"{"jsonrpc":"2.0","id":1,"result":"0x1111"} /v3"#;
            assert_eq!(secrets(url).redacted(said), said);
        }
        assert_eq!(secrets("http://h").quote(&"x".repeat(500)).chars().count(), 301);
        assert_eq!(secrets("http://h").quote("a\u{1b}[31mb"), "a [31mb");
    }
}
