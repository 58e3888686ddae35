//! TLS with certificates made for the test: whom the client believes, and whom the server.

use crate::{
    common::{Chain, Echo, client_config, config, serve, token, until},
    postgres::Postgres,
    store::RULES,
};
use client::{Access, Client, Phase};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use server::{
    Config, DatabaseUrl,
    config::Auth,
    store::JobStore,
    tls::Tls,
    tokens::{NewToken, Role, TokenError, Tokens},
};
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// An authority, and what it has signed, as files.
struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Makes `NAME.pem`, `NAME.key`, and both in `NAME.both`.
    fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        fs::write(self.path(&format!("{name}.pem")), &certificate).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        fs::write(self.path(&format!("{name}.both")), certificate + &key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(dir.path(), "ours");
    let config = secure(dir.path(), &ours);
    Tls::new(&config).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2024, 2, 29);
    let certificate = params.signed_by(&key, &ours.issuer).unwrap().pem();
    fs::write(ours.path("server.pem"), certificate).unwrap();
    fs::write(ours.path("server.key"), key.serialize_pem()).unwrap();
    let error = Tls::new(&config).unwrap_err().to_string();
    assert!(error.contains("setting tls_cert is") && error.contains("Feb 29"), "{error}");
    assert!(error.contains("and not now"), "{error}");
}

fn secure(dir: &Path, authority: &Authority) -> Config {
    authority.sign("server");
    Config {
        auth: Auth::Required,
        tls_cert: Some(authority.path("server.pem")),
        tls_key: Some(authority.path("server.key")),
        ..config(dir)
    }
}

async fn start(dir: &Path, name: &str, url: &str, access: Access) -> client::Running {
    let config = client::Config { access, ..client_config(dir, name, url) };
    Client::start(config, Arc::new(Echo::default())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_proves_over_https_for_a_server_whose_authority_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let config = secure(dir.path(), &ours);
    let running = serve(config.clone(), &Chain::new(1)).await;
    assert!(running.url().starts_with("https://"), "{}", running.url());
    let file = dir.path().join("token");
    fs::write(&file, token(&config, Role::Client).await.1).unwrap();
    let access = |ca: PathBuf| Access {
        token_file: Some(file.clone()),
        ca_file: Some(ca),
        ..Access::default()
    };
    let fooled = start(dir.path(), "fooled", &running.url(), access(theirs.path("ca.pem"))).await;
    until("it does not believe the server", async || {
        matches!(fooled.status().phase, Phase::Unreachable { .. })
    })
    .await;
    fooled.stop().await;
    let plain = running.url().replace("https", "http");
    let plain = start(dir.path(), "plain", &plain, access(ours.path("ca.pem"))).await;
    until("it finds nobody without TLS", async || {
        matches!(plain.status().phase, Phase::Unreachable { .. })
    })
    .await;
    plain.stop().await;
    assert_eq!(running.status().await.unwrap().counts.proved, 0);
    let client = start(dir.path(), "client", &running.url(), access(ours.path("ca.pem"))).await;
    until("it is proved", async || running.status().await.unwrap().counts.proved == 1).await;
    client.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_certificate_is_as_good_as_a_token_and_no_other_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let config = Config { tls_client_ca: Some(ours.path("ca.pem")), ..secure(dir.path(), &ours) };
    for name in ["known", "unknown", "viewer"] {
        ours.sign(name);
    }
    theirs.sign("foreign");
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    for (name, role) in [("known", Role::Client), ("viewer", Role::Viewer)] {
        let new = NewToken {
            name: name.into(),
            role,
            client: None,
            certificate: Some(ours.path(&format!("{name}.pem"))),
            lifetime: (role == Role::Viewer).then_some(Duration::from_secs(86_400)),
        };
        assert!(tokens.create(&new).await.unwrap().1.is_none(), "there is no secret to show");
        assert!(matches!(tokens.create(&new).await, Err(TokenError::Taken(_))));
        let new = NewToken { certificate: Some(ours.path(&format!("{name}.key"))), ..new };
        assert!(matches!(tokens.create(&new).await, Err(TokenError::Certificate { .. })));
    }
    tokens.close().await;
    let running = serve(config, &Chain::new(1)).await;
    let access = |certificate: Option<PathBuf>| Access {
        ca_file: Some(ours.path("ca.pem")),
        certificate,
        ..Access::default()
    };
    let get = async |certificate: Option<PathBuf>| {
        let url: reqwest::Url = format!("{}/v1/status", running.url()).parse().unwrap();
        let http = access(certificate).http(&url).unwrap().build().unwrap();
        http.get(url).send().await.map(|answer| answer.status().as_u16())
    };
    assert!(get(None).await.is_err(), "no certificate, no connection");
    assert!(get(Some(theirs.path("foreign.both"))).await.is_err());
    assert_eq!(get(Some(ours.path("unknown.both"))).await.unwrap(), 401);
    assert_eq!(get(Some(ours.path("known.both"))).await.unwrap(), 403);
    assert_eq!(get(Some(ours.path("viewer.both"))).await.unwrap(), 200);
    // Both expiries are told before they come.
    let url: reqwest::Url = format!("{}/metrics", running.url()).parse().unwrap();
    let viewer = access(Some(ours.path("viewer.both"))).http(&url).unwrap().build().unwrap();
    let text = viewer.get(url).send().await.unwrap().text().await.unwrap();
    let gauge = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("it is there").trim().parse().expect("a number")
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let token = gauge("prover_server_token_expiry_timestamp_seconds");
    assert!((now + 86_000..=now + 86_400).contains(&token), "{token}");
    assert!(gauge("prover_server_certificate_expiry_timestamp_seconds") > now);
    let known = access(Some(ours.path("known.both")));
    let client = start(dir.path(), "client", &running.url(), known).await;
    until("it is proved", async || running.status().await.unwrap().counts.proved == 1).await;
    client.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_page_uses_the_certificate_or_the_session_of_an_operators_browser() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(dir.path(), "ours");
    let config = Config { tls_client_ca: Some(ours.path("ca.pem")), ..secure(dir.path(), &ours) };
    for name in ["operator", "browser"] {
        ours.sign(name);
    }
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    let new = NewToken {
        name: "operator".into(),
        role: Role::Operator,
        client: None,
        certificate: Some(ours.path("operator.pem")),
        lifetime: None,
    };
    tokens.create(&new).await.unwrap();
    tokens.close().await;
    let (_, secret) = token(&config, Role::Operator).await;
    let running = serve(config, &Chain::new(0)).await;
    let url: reqwest::Url = running.url().parse().unwrap();
    let http = |certificate: &str| {
        let certificate = Some(ours.path(&format!("{certificate}.both")));
        let access =
            Access { ca_file: Some(ours.path("ca.pem")), certificate, ..Access::default() };
        access.http(&url).unwrap().build().unwrap()
    };
    // One has a certificate that counts as a token; the other has signed in.
    let (certified, signed_in) = (http("operator"), http("browser"));
    let session = signed_in.post(url.join("v1/session").unwrap()).bearer_auth(&secret);
    let session = session.send().await.unwrap().error_for_status().unwrap();
    let cookie = session.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let half = session.json::<protocol::Session>().await.unwrap().csrf.unwrap();
    let own = url.as_str().trim_end_matches('/').to_owned();
    let plain = own.replace("https:", "http:");
    for (origin, site, expected) in [
        (None, Some("cross-site"), 403),
        (None, Some("same-site"), 403),
        (Some(own.as_str()), Some("cross-site"), 403),
        (Some(plain.as_str()), None, 403),
        (Some("x-evil://127.0.0.1"), None, 403),
        (Some("null"), None, 403),
        (Some(own.as_str()), Some("same-origin"), 204),
        (Some(own.as_str()), None, 204),
        (None, None, 204),
    ] {
        let switch = url.join("v1/pause").unwrap();
        let session = signed_in.post(switch.clone()).header("cookie", &cookie);
        let session = session.header("x-csrf-token", &half);
        for (who, mut request) in
            [("certificate", certified.post(switch.clone())), ("session", session)]
        {
            for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let answer = request.send().await.unwrap().status().as_u16();
            assert_eq!(answer, expected, "{who}: {origin:?} {site:?}");
            let paused = running.status().await.unwrap().paused_since.is_some();
            assert_eq!(paused, expected == 204, "{who}: {origin:?} {site:?}");
            if paused {
                let resumed = certified.delete(switch.clone()).send().await.unwrap();
                assert_eq!(resumed.status().as_u16(), 204);
            }
        }
    }
    // A cookie that somebody planted takes nothing from whoever has a certificate.
    let both = certified.get(url.join("v1/session").unwrap()).header("cookie", &cookie);
    assert_eq!(both.send().await.unwrap().status().as_u16(), 200);
    running.stop().await;
}

#[tokio::test]
async fn a_database_is_reached_over_tls_if_its_authority_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, other] = ["ours", "other"].map(|name| Authority::new(folder.path(), name));
    let certificates = tempfile::tempdir().unwrap();
    ours.sign("server");
    for file in ["server.pem", "server.key"] {
        let copy = certificates.path().join(file);
        fs::copy(ours.path(file), &copy).unwrap();
        fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |name: &str| certificates.path().join(name).display().to_string();
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", file("server.pem")),
        format!("ssl_key_file={}", file("server.key")),
    ];
    let Some(postgres) = Postgres::start_with(certificates, &settings).await else { return };
    let url = |authority: &Authority| {
        let authority = authority.path("ca.pem").display().to_string();
        DatabaseUrl::new(format!(
            "postgres://prover@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={authority}"
        ))
    };
    let store = JobStore::connect(&url(&ours), RULES).await.unwrap();
    store.tip().await.unwrap();
    let encrypted = sqlx::query_scalar("SELECT count(*) FROM pg_stat_ssl WHERE ssl");
    let encrypted: i64 = encrypted.fetch_one(&mut postgres.admin().await).await.unwrap();
    assert!(encrypted > 0, "no connection is encrypted");
    store.close().await;
    let refused = JobStore::connect(&url(&other), RULES).await.unwrap_err();
    let chain = std::iter::successors(Some(&refused as &dyn std::error::Error), |e| e.source());
    let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(text.contains("certificate"), "{text}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_and_a_renewed_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(dir.path(), "ours");
    let good = secure(dir.path(), &ours);
    ours.sign("other");
    let tls = Tls::new(&good).unwrap().expect("it is configured");
    let wrong = [
        ("tls_cert", Config { tls_cert: Some(ours.path("nowhere.pem")), ..good.clone() }),
        ("tls_cert", Config { tls_cert: Some(ours.path("server.key")), ..good.clone() }),
        ("tls_key", Config { tls_key: Some(ours.path("server.pem")), ..good.clone() }),
        ("tls_key", Config { tls_key: Some(ours.path("other.key")), ..good.clone() }),
        ("tls_client_ca", Config { tls_client_ca: Some(ours.path("server.key")), ..good.clone() }),
    ];
    for (key, config) in wrong {
        let error = Tls::new(&config).unwrap_err();
        assert_eq!(error.key, key, "{error}");
    }
    for (key, config) in [
        ("tls_key", Config { tls_key: None, ..good.clone() }),
        ("tls_cert", Config { tls_cert: None, ..good.clone() }),
    ] {
        assert_eq!(config.check().unwrap_err().key, key);
    }
    // A renewal that is half done changes nothing; one that is done counts.
    let key = |tls: &Tls| format!("{:p}", Arc::as_ptr(tls.acceptor().config()));
    let before = key(&tls);
    fs::copy(ours.path("other.pem"), ours.path("server.pem")).unwrap();
    assert_eq!(tls.renew().unwrap_err().key, "tls_key");
    assert_eq!(key(&tls), before);
    fs::copy(ours.path("other.key"), ours.path("server.key")).unwrap();
    tls.renew().unwrap();
    assert_ne!(key(&tls), before);
}
