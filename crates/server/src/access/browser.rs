//! Requests that a web page sends with the browser of somebody who may reach the server.
//!
//! * A browser names the page's origin in each request that changes something, and says of every request whether a page of another origin
//!   caused it. Such a request is refused, whatever else it shows: otherwise any page that an operator opens could requeue jobs, or use the
//!   certificate in the operator's browser. The dashboard's own files are for everybody: a link elsewhere may lead to them.
//! * A name that a stranger's DNS points at this machine (DNS rebinding) would make the stranger's page one of this server's own. A server that
//!   needs no token therefore answers only to names of the loopback interface.

use axum::http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
};
use std::net::IpAddr;

/// A request that a web page of somebody else may have caused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// The page is not of this server.
    #[error("a web page of another origin may not use this server")]
    Origin,
    /// It has a session's cookie, and not what the page got that signed in.
    #[error(
        "a session needs its cookie and the header x-csrf-token of the same sign-in: sign in again"
    )]
    Csrf,
    /// The server is called by a name that anybody may give it.
    #[error(
        "this server needs no token, so it answers only to localhost and loopback addresses: the Host header names another host"
    )]
    Host,
}

/// How browsers reach the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// From this machine alone, without a token.
    pub(crate) trusts_loopback: bool,
    /// Over TLS that the server speaks itself. Without, there may be a proxy that does.
    pub(crate) over_tls: bool,
}

/// Checks a request's origin and, of a server that trusts the loopback interface instead of tokens, the host it is sent to.
///
/// # Errors
/// [`Foreign`].
pub(crate) fn check(headers: &HeaderMap, reached: Reached) -> Result<(), Foreign> {
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        // A server that speaks TLS has no page without. One that does not may have pages of either kind: a proxy before it may
        // speak TLS, and no page of another server has this one's host and port. Other schemes are not the web's.
        let own = origin.is_some_and(|(scheme, authority)| {
            let scheme = scheme == "https" || (scheme == "http" && !reached.over_tls);
            scheme && Some(authority) == host
        });
        if !own {
            return Err(Foreign::Origin);
        }
    }
    // Programs may leave the header out; browsers never do.
    if reached.trusts_loopback && host.is_some_and(|host| !is_loopback(host)) {
        return Err(Foreign::Host);
    }
    Ok(())
}

/// Whether a browser says that a page of another origin caused the request. Another port of this host is another origin, although it is
/// the same site: it gets the same cookies. Programs do not send the header, and pages cannot set it.
pub(crate) fn is_of_another_origin(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| site != "same-origin" && site != "none")
}

/// Whether `authority` (`HOST` or `HOST:PORT`) names this machine's loopback interface, whoever is asked.
fn is_loopback(authority: &str) -> bool {
    let Some(host) = authority.parse::<Uri>().ok().and_then(|uri| Some(uri.host()?.to_owned()))
    else {
        return false;
    };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match ip {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_interface_are_loopback() {
        for host in
            ["localhost", "LOCALHOST:3900", "127.0.0.1:1", "127.8.9.1", "[::1]:3900", "a.localhost"]
        {
            assert!(is_loopback(host), "{host}");
        }
        let others = [
            "evil.example",
            "127.0.0.1.evil.example:3900",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "",
            "user@localhost@evil.example",
            "notlocalhost",
        ];
        for host in others {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_page_may_only_use_the_server_it_came_from() {
        let headers = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            headers
        };
        let open = Reached { trusts_loopback: true, over_tls: false };
        let cases = [
            ("localhost:3900", None, Ok(())),
            ("localhost:3900", Some("http://localhost:3900"), Ok(())),
            ("localhost:3900", Some("http://localhost:8080"), Err(Foreign::Origin)),
            ("localhost:3900", Some("https://evil.example"), Err(Foreign::Origin)),
            ("localhost:3900", Some("x-evil://localhost:3900"), Err(Foreign::Origin)),
            ("localhost:3900", Some("null"), Err(Foreign::Origin)),
            ("evil.example:3900", Some("http://evil.example:3900"), Err(Foreign::Host)),
            ("evil.example:3900", None, Err(Foreign::Host)),
        ];
        for (host, origin, expected) in cases {
            assert_eq!(check(&headers(host, origin), open), expected, "{host} {origin:?}");
        }
        // Behind a proxy that speaks TLS, or by itself.
        let named = |origin: &str| headers("prover.example", Some(origin));
        for (over_tls, origin, expected) in [
            (false, "https://prover.example", Ok(())),
            (false, "http://prover.example", Ok(())),
            (true, "https://prover.example", Ok(())),
            (true, "http://prover.example", Err(Foreign::Origin)),
            (true, "null", Err(Foreign::Origin)),
        ] {
            let reached = Reached { trusts_loopback: false, over_tls };
            assert_eq!(check(&named(origin), reached), expected, "{over_tls} {origin}");
        }
        assert_eq!(check(&HeaderMap::new(), open), Ok(()));
    }
}
