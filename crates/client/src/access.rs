//! What a client shows a server, and by what it knows the server.

use serde::{Deserialize, Serialize};
use std::{fmt, fs, io, path::PathBuf};

/// A secret text: it is not shown, logged or written.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret `text`, without the spaces around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a client shows a server, and by what it knows the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// The token, if it is not in a file.
    #[serde(skip)]
    pub token: Option<Secret>,
    /// A file with the token. It is read for each request, so that a token can be changed while the client runs.
    pub token_file: Option<PathBuf>,
    /// The authorities of the server's certificate: a file in PEM. Left out: the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key: one file in PEM.
    pub certificate: Option<PathBuf>,
}

/// Why a server cannot be called as configured.
#[derive(Debug, thiserror::Error)]
#[error("{} {what}: {detail}", path.display())]
pub struct AccessError {
    path: PathBuf,
    what: &'static str,
    detail: String,
}

impl Access {
    /// An HTTP client for the server at `url`.
    ///
    /// # Errors
    /// [`AccessError`] names the file that cannot be used.
    pub fn http(&self, url: &reqwest::Url) -> Result<reqwest::ClientBuilder, AccessError> {
        // Already there if this is not the first client: it is the same one then, or what the program chose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A server on this network is meant, whatever proxy the environment names, and no other than the one named.
        let http =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let tls = url.scheme() == "https";
        let http = match &self.ca_file {
            Some(path) => {
                let no = |detail: String| wrong(path, "is no certificate in PEM", detail);
                let pem = fs::read(path).map_err(|error| no(error.to_string()))?;
                let all = reqwest::Certificate::from_pem_bundle(&pem);
                http.tls_certs_only(all.map_err(|error| no(error.to_string()))?)
            }
            // The system's authorities are needed only for https; there may be none.
            None if tls => http,
            None => http.tls_certs_only([]),
        };
        match &self.certificate {
            Some(path) => {
                let no = |detail| wrong(path, "is no certificate with its key in PEM", detail);
                let pem = fs::read(path).map_err(|error| no(error.to_string()))?;
                let identity = reqwest::Identity::from_pem(&pem);
                Ok(http.identity(identity.map_err(|error| no(error.to_string()))?))
            }
            None => Ok(http),
        }
    }

    /// Whether there is a token that everybody on the way to `url` can read.
    pub fn exposed_to_network(&self, url: &reqwest::Url) -> bool {
        let shows = self.token.is_some() || self.token_file.is_some();
        let near = url.host_str().is_some_and(|host| {
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        });
        shows && url.scheme() == "http" && !near
    }

    /// `request` with the token.
    ///
    /// # Errors
    /// [`AccessError`] if the token's file cannot be read now.
    pub fn authorize(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::RequestBuilder, AccessError> {
        let token = match &self.token_file {
            Some(path) => {
                let no = |error: io::Error| wrong(path, "has no token", error.to_string());
                Some(Secret::new(&fs::read_to_string(path).map_err(no)?))
            }
            None => self.token.clone(),
        };
        Ok(match token {
            Some(token) => request.bearer_auth(token.0),
            None => request,
        })
    }
}

fn wrong(path: &std::path::Path, what: &'static str, detail: String) -> AccessError {
    AccessError { path: path.into(), what, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_and_its_file_is_read_anew() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let access = Access {
            token: Some(Secret::new("hunter2")),
            token_file: Some(file.clone()),
            ..Access::default()
        };
        assert!(!format!("{access:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&access).unwrap().contains("hunter2"));
        let url: reqwest::Url = "http://127.0.0.1:1".parse().unwrap();
        let http = access.http(&url).unwrap().build().unwrap();
        let error = access.authorize(http.get(url.clone())).unwrap_err().to_string();
        assert!(error.contains("token has no token"), "{error}");
        for token in ["one", "two"] {
            fs::write(&file, format!("{token}\n")).unwrap();
            let request = access.authorize(http.get(url.clone())).unwrap().build().unwrap();
            assert_eq!(request.headers()["authorization"], format!("Bearer {token}"));
        }
        for (url, exposed) in [
            ("http://127.0.0.1:1", false),
            ("http://[::1]:1", false),
            ("http://localhost", false),
            ("http://prover.example", true),
            ("https://prover.example", false),
        ] {
            assert_eq!(access.exposed_to_network(&url.parse().unwrap()), exposed, "{url}");
        }
    }
}
