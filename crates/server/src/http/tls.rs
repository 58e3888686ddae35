//! TLS: the server's certificate, and which client certificates it trusts.

use crate::config::{Config, InvalidConfig};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Once a day the log says that a certificate expires within so many days.
const EXPIRES_SOON: i64 = 14;

/// How often the files are read anew: certificates are renewed while the server runs.
const RENEW: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The server's side of TLS. Clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    current: RwLock<Loaded>,
}

/// What was read last.
#[derive(Clone, Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    expires: Expires,
}

/// When the certificate expires.
#[derive(Clone, Debug)]
struct Expires {
    /// So many days after it was read.
    days: i64,
    /// In seconds of Unix time.
    at: i64,
    text: String,
}

impl Tls {
    /// TLS as configured, if it is.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the setting whose file cannot be used.
    pub fn new(config: &Config) -> Result<Option<Self>, InvalidConfig> {
        let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else {
            return Ok(None);
        };
        let client_ca = config.tls_client_ca.clone();
        let current = RwLock::new(load(certificate, key, client_ca.as_deref())?);
        let (certificate, key) = (certificate.clone(), key.clone());
        Ok(Some(Self(Arc::new(Inner { certificate, key, client_ca, current }))))
    }

    /// What handshakes the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).config.clone().into()
    }

    /// Reads the files every minute until `stopping`. Files that cannot be used leave everything as it is.
    pub async fn run(self, stopping: CancellationToken) {
        let mut warned = None;
        loop {
            if warned.is_none_or(|at: Instant| at.elapsed() > DAY)
                && let Some(Expires { days, text: expires, .. }) = self.expires_soon()
            {
                let file = self.0.certificate.display();
                tracing::warn!(code = "certificate_expires", %file, days, expires, "the server's certificate expires soon");
                warned = Some(Instant::now());
            }
            if stopping.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_none() {
                return;
            }
            let this = self.clone();
            let renew = move || this.renew();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(renew).await {
                tracing::warn!(code = "certificate_not_renewed", %error, "the certificate was not renewed");
            }
        }
    }

    /// When the certificate expires, in seconds of Unix time.
    pub fn expires_at(&self) -> i64 {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).expires.at
    }

    /// When the certificate expires, if that is soon.
    fn expires_soon(&self) -> Option<Expires> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.expires.clone()).filter(|expires| expires.days < EXPIRES_SOON)
    }

    /// Reads the files now.
    ///
    /// # Errors
    /// As [`new`](Self::new); then everything stays as it is.
    pub fn renew(&self) -> Result<(), InvalidConfig> {
        let Inner { certificate, key, client_ca, current } = &*self.0;
        let new = load(certificate, key, client_ca.as_deref())?;
        *current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

fn load(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Loaded, InvalidConfig> {
    let wrong = |key, path: &Path, what: &str, error: &dyn std::fmt::Display| InvalidConfig {
        key,
        problem: format!("is {}, which is no {what}: {error}", path.display()),
    };
    let chain = certificates(certificate)
        .map_err(|error| wrong("tls_cert", certificate, "certificate in PEM", &error))?;
    let own = chain.first().map_or(&[][..], |own| own);
    let (_, own) = X509Certificate::from_der(own)
        .map_err(|error| wrong("tls_cert", certificate, "certificate", &error))?;
    let validity = own.validity();
    if !validity.is_valid() {
        let problem = format!(
            "is {}, which is valid from {} to {}, and not now",
            certificate.display(),
            validity.not_before,
            validity.not_after
        );
        return Err(InvalidConfig { key: "tls_cert", problem });
    }
    let left = validity.time_to_expiration();
    let expires = Expires {
        days: left.map_or(0, |left| left.whole_days()),
        at: validity.not_after.timestamp(),
        text: validity.not_after.to_string(),
    };
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong("tls_key", key, "private key in PEM", &error))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for the default versions");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| {
                wrong("tls_client_ca", path, "authority's certificate in PEM", error)
            };
            let mut roots = RootCertStore::empty();
            for ca in certificates(path).map_err(|error| wrong(&error))? {
                roots.add(ca).map_err(|error| wrong(&error))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(&error))?)
        }
    };
    let config = builder.with_single_cert(chain, private);
    let mut config =
        config.map_err(|error| wrong("tls_key", key, "key of the certificate", &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), expires })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| error.to_string())?
        .map(|one| one.map_err(|error| error.to_string()))
        .collect();
    let all = all?;
    if all.is_empty() { Err("it holds none".into()) } else { Ok(all) }
}
