//! The parties that a sender speaks to over HTTP, when they are not what they should be: RPCs and remote signers.

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_network::TxSignerSync as _;
use alloy_primitives::{Address, B256, Signature, TxKind, U256, hex};
use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};
use settlement::{L1Error, Rpc, Wallet, WalletError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::Url;

/// A server that answers each request with what `answer` makes of its body. Its address has a key in it.
async fn serve(answer: impl Fn(Value) -> Vec<u8> + Send + Sync + 'static) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:secret@{}/v3/secret", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1 << 16];
            let mut read = 0;
            let body = loop {
                read += stream.read(&mut request[read..]).await.unwrap();
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str(body)
                {
                    break body;
                }
            };
            // Whoever has read enough goes away.
            let _gone = stream.write_all(&answer(body)).await;
        }
    });
    url.parse().unwrap()
}

fn http(status: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn result(request: &Value, result: &Value) -> Vec<u8> {
    let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    http("200 OK", answer.to_string().as_bytes())
}

async fn refused(url: &Url) -> String {
    let error = Rpc::http(url).unwrap().chain(None).await.unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
    assert!(error.len() < 400, "{error}");
    error
}

#[tokio::test]
async fn an_rpc_is_heard_only_so_far_and_its_key_stays_here() {
    let endless = serve(|_| http("200 OK", &vec![b' '; 5 << 20])).await;
    let error = refused(&endless).await;
    assert!(error.ends_with("its answer is too long"), "{error}");
    let page = serve(|_| http("502 Bad Gateway", b"<html>no secret at all</html>")).await;
    let error = refused(&page).await;
    assert!(error.ends_with("HTTP status 502"), "{error}");
    let text = serve(|_| http("200 OK", b"no JSON, but a secret")).await;
    assert!(refused(&text).await.contains("its answer is no JSON-RPC"));
    // What it says may have the key.
    let quotes = serve(|request| {
        let error = json!({ "code": -32_000, "message": "no such key: /v3/secret, and SECRET" });
        let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
        http("200 OK", answer.to_string().as_bytes())
    })
    .await;
    assert!(refused(&quotes).await.contains("no such key: /…"));
    let wallet = Wallet::remote(&quotes, key(1).address()).unwrap();
    let error = wallet.sign(tx()).await.unwrap_err().to_string();
    assert!(error.contains("no such key: /…") && !error.contains("secret"), "{error}");
    // An address behind this one is not asked.
    let elsewhere = serve(|request| result(&request, &json!("0x1"))).await;
    let redirect = format!("HTTP/1.1 307 Go\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n");
    let redirects = serve(move |_| redirect.clone().into_bytes()).await;
    assert!(refused(&redirects).await.ends_with("HTTP status 307"));
    let gone: Url = "http://user:secret@127.0.0.1:9/secret".parse().unwrap();
    assert!(refused(&gone).await.starts_with("http://127.0.0.1:9 failed to tell its chain"));
    assert!(matches!(Rpc::http(&"ftp://localhost".parse().unwrap()), Err(L1Error::Url(_))));
}

#[tokio::test]
async fn an_rpc_of_another_chain_is_not_asked_for_more() {
    let url = serve(|request| {
        assert_eq!(request["method"], "eth_chainId");
        result(&request, &json!("0x5"))
    })
    .await;
    let mut rpc = Rpc::http(&url).unwrap();
    let wrong = rpc.chain(Some(1)).await.unwrap_err();
    assert!(matches!(wrong, L1Error::OtherChain { found: 5, expected: 1, .. }), "{wrong}");
    assert_eq!(rpc.chain(None).await.unwrap(), 5);
}

fn key(n: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(n)).unwrap()
}

fn tx() -> TxEip1559 {
    TxEip1559 {
        chain_id: 1,
        nonce: 7,
        gas_limit: 100_000,
        max_fee_per_gas: 30,
        max_priority_fee_per_gas: 2,
        to: TxKind::Call(Address::repeat_byte(3)),
        input: vec![1, 2, 3].into(),
        ..TxEip1559::default()
    }
}

fn signed(mut tx: TxEip1559, by: u8) -> TxEnvelope {
    let signature = key(by).sign_transaction_sync(&mut tx).unwrap();
    tx.into_signed(signature).into()
}

/// What a wallet says that asks a remote signer which always signs this.
async fn remote(tx: TxEnvelope) -> Result<(B256, Vec<u8>), WalletError> {
    let raw = json!(hex::encode_prefixed(tx.encoded_2718()));
    let url = serve(move |request| {
        assert_eq!(request["method"], "eth_signTransaction");
        let asked = &request["params"][0];
        assert_eq!(asked["from"], json!(key(1).address()));
        assert_eq!((&asked["nonce"], &asked["maxFeePerGas"]), (&json!("0x7"), &json!("0x1e")));
        result(&request, &raw)
    })
    .await;
    Wallet::remote(&url, key(1).address()).unwrap().sign(self::tx()).await
}

#[tokio::test]
async fn a_remote_signer_signs_what_was_asked_for_or_nothing_is_sent() {
    let (hash, raw) = remote(signed(tx(), 1)).await.unwrap();
    assert_eq!(raw, signed(tx(), 1).encoded_2718());
    assert_eq!(hash, *signed(tx(), 1).tx_hash());
    // The other s of the same signature, which L1 does not take (EIP-2).
    let TxEnvelope::Eip1559(lower) = signed(tx(), 1) else { unreachable!() };
    let (r, s, odd) = (lower.signature().r(), lower.signature().s(), lower.signature().v());
    let order = U256::from_be_bytes(hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let higher = tx().into_signed(Signature::new(r, order - s, !odd));
    assert_eq!(remote(higher.into()).await.unwrap(), (hash, raw));
    let other = |error: Result<_, WalletError>| match error {
        Err(WalletError::Other(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(other(remote(signed(tx(), 2)).await), "with another key");
    for changed in [
        TxEip1559 { nonce: 8, ..tx() },
        TxEip1559 { to: TxKind::Call(Address::ZERO), ..tx() },
        TxEip1559 { value: U256::from(1), ..tx() },
        TxEip1559 { max_fee_per_gas: 31, ..tx() },
        TxEip1559 { chain_id: 2, ..tx() },
        TxEip1559 { input: vec![9].into(), ..tx() },
    ] {
        assert_eq!(other(remote(signed(changed, 1)).await), "another transaction");
    }
    let mut legacy = TxLegacy { chain_id: Some(1), nonce: 7, ..TxLegacy::default() };
    let signature = key(1).sign_transaction_sync(&mut legacy).unwrap();
    let legacy = remote(legacy.into_signed(signature).into()).await;
    assert_eq!(other(legacy), "a transaction of another type");
}

#[test]
fn a_keystore_is_opened_with_its_password_and_by_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (file, password) = (folder.path().join("key"), folder.path().join("password"));
    let mut rng = rand08::thread_rng();
    let bytes = key(1).to_bytes();
    PrivateKeySigner::encrypt_keystore(folder.path(), &mut rng, bytes, "open sesame", Some("key"))
        .unwrap();
    let missing = Wallet::keystore(&file, &password).unwrap_err();
    assert!(matches!(missing, WalletError::File { .. }), "{missing}");
    for text in ["open sesame", "open sesame\n", "open sesame\r\n"] {
        std::fs::write(&password, text).unwrap();
        assert_eq!(Wallet::keystore(&file, &password).unwrap().address(), key(1).address());
    }
    for text in ["", "open sesame ", "open sesame\n\n"] {
        std::fs::write(&password, text).unwrap();
        let wrong = Wallet::keystore(&file, &password).unwrap_err();
        assert!(matches!(wrong, WalletError::Keystore { .. }), "{wrong}");
        assert!(text.is_empty() || !wrong.to_string().contains(text.trim()), "{wrong}");
    }
    // Nothing of the key is shown.
    let shown = format!("{:?}", Wallet::new(key(1)));
    assert!(!shown.contains(&hex::encode(bytes)) && shown.contains("address"), "{shown}");
}
