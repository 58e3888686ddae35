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
    time::Duration,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are read anew: certificates are renewed while the server runs.
const RENEW: Duration = Duration::from_secs(60);

/// The server's side of TLS. Clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    current: RwLock<Arc<ServerConfig>>,
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
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Reads the files every minute until `stopping`. Files that cannot be used leave everything as it is.
    pub async fn run(self, stopping: CancellationToken) {
        while stopping.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
            let this = self.clone();
            let renew = move || this.renew();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(renew).await {
                tracing::warn!(code = "certificate_not_renewed", %error, "the certificate was not renewed");
            }
        }
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

fn load(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, InvalidConfig> {
    let wrong = |key, path: &Path, what: &str, error: &dyn std::fmt::Display| InvalidConfig {
        key,
        problem: format!("is {}, which is no {what}: {error}", path.display()),
    };
    let chain = certificates(certificate)
        .map_err(|error| wrong("tls_cert", certificate, "certificate in PEM", &error))?;
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
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| error.to_string())?
        .map(|one| one.map_err(|error| error.to_string()))
        .collect();
    let all = all?;
    if all.is_empty() { Err("it holds none".into()) } else { Ok(all) }
}
