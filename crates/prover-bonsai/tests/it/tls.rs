//! An engine behind TLS: it is spoken to if an authority vouches for it, and learns nothing if none does.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::engine::Engine;
use crate::restarts::another_process;
use crate::{Bench, contains, dev_receipt};

/// Ends TLS before an engine, with a certificate of an authority of its own.
struct Proxy {
    url: String,
    /// The authority's certificate, in PEM.
    authority: String,
    _runtime: Runtime,
}

impl Proxy {
    fn before(engine: &Engine) -> Self {
        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let own_key = key();
        let own = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let own = own.signed_by(&own_key, &issuer).expect("a certificate");
        let private = PrivatePkcs8KeyDer::from(own_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], private)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let target = engine.url().replacen("http://", "", 1);
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, target) = (acceptor.clone(), target.clone());
                tokio::spawn(async move {
                    let mut outside = acceptor.accept(stream).await?;
                    let mut inside = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        let url = format!("https://localhost:{port}");
        Self { url, authority: issuer.pem(), _runtime: runtime }
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_ends_the_conversation_before_the_key() {
    let engine = Engine::new(dev_receipt());
    let proxy = Proxy::before(&engine);
    let mut bench = Bench::new(&engine);
    let file = bench.folder.path().join("key");
    fs::write(&file, "a-secret-key").unwrap();
    bench.config.key_file = Some(file);
    bench.config.url = proxy.url.parse().unwrap();
    bench.config.patience = Duration::ZERO;
    contains(&bench.fails(), &["backend_unavailable"]);
    assert_eq!(engine.memory(|memory| memory.calls.len()), 0);
}

#[test]
fn an_engine_whose_certificate_the_system_knows_proves() {
    let engine = Engine::new(dev_receipt());
    let proxy = Proxy::before(&engine);
    let bench = Bench::new(&engine);
    let authority = bench.folder.path().join("authority.pem");
    fs::write(&authority, &proxy.authority).unwrap();
    // The system's authorities are asked for once in a process.
    let mut process = another_process(&bench, &proxy.url);
    let status = process.env("SSL_CERT_FILE", authority).status().unwrap();
    assert!(status.success(), "it was not proven");
    assert_eq!(engine.created(), 1);
    // Engines name `http://` and the header Host, which is the proxy's.
    engine.memory(|memory| {
        assert_eq!(memory.calls[0].headers["host"], proxy.url.replacen("https://", "", 1));
    });
}
