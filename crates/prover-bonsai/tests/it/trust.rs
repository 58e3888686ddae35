//! Engines that lie: receipts of something else, answers without end, other hosts, and what becomes of the key.

use std::fs;
use std::time::{Duration, Instant};

use client::Prover;

use crate::engine::{Engine, Reply};
use crate::receipts::Real;
use crate::{Bench, contains, dev_receipt};

#[test]
fn a_receipt_that_does_not_prove_the_work_is_refused() {
    let (real, other) = (Real::dev_block(), Real::of_another_program());
    let good = real.sent();
    let mut of_another_journal = real.receipt();
    of_another_journal.journal.bytes.clone_from(&other.statement);
    let of_another_journal = bincode::serialize(&of_another_journal).unwrap();
    let nested = [&0_u32.to_le_bytes()[..], &0_u64.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    let deep = nested.repeat(700_000);
    // A sequence of 2^60 words is not reserved for.
    let endless = [&[1, 0, 0, 0][..], &[0, 0, 0, 0, 0, 0, 0, 16], &[0; 64]].concat();
    for (statement, receipt, words) in [
        (&other.statement, other.sent(), "(the proof is invalid: "),
        (&other.statement, of_another_journal, "(the proof is invalid: "),
        (&real.statement, real.fake(), "(it is one of dev mode, which proves nothing)"),
        // Nested as deep as it is long.
        (&real.statement, deep, "(it is composite instead of succinct)"),
        (&real.statement, b"no receipt".to_vec(), "(it is no receipt: "),
        (&real.statement, Vec::new(), "(it is no receipt: "),
        (&real.statement, good[..good.len() - 1].to_vec(), "(it is no receipt: "),
        (&real.statement, [&good[..], b"\0"].concat(), "(it is no receipt: "),
        (&real.statement, endless, "(it is no receipt: "),
    ] {
        let engine = Engine::new(receipt);
        let mut bench = Bench::new(&engine);
        bench.real.statement.clone_from(statement);
        let error = bench.fails();
        contains(&error, &["backend_failed", "receipt that does not prove the work", words]);
        assert_eq!((engine.created(), bench.kept()), (1, 0), "{error}");
    }
}

#[test]
fn a_receipt_with_a_flipped_byte_is_refused() {
    let good = dev_receipt();
    // From the seal, which is most of it: a receipt with another byte elsewhere may be the same proof, which is made again here.
    for at in [200, good.len() / 3, good.len() / 2] {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        let engine = Engine::new(flipped);
        contains(&Bench::new(&engine).fails(), &["receipt that does not prove the work"]);
    }
}

#[test]
fn a_valid_receipt_of_another_input_is_refused() {
    let engine = Engine::new(dev_receipt());
    let mut bench = Bench::new(&engine);
    bench.real.statement[40] ^= 1;
    contains(&bench.fails(), &["backend_failed", "it commits to the statement of another input"]);
    bench.real.statement[40] ^= 1;
    bench.proves();
}

#[test]
fn a_receipt_without_end_or_of_great_length_is_not_read() {
    for announced in [false, true] {
        let engine = Engine::with(dev_receipt(), move |call, _| {
            let receipt = call.line.starts_with("GET /receipts/stark");
            receipt.then_some(match announced {
                true => Reply::Announced(1_000_000_000),
                false => Reply::Endless,
            })
        });
        let mut bench = Bench::new(&engine);
        bench.config.max_receipt_bytes = 1 << 20;
        let begun = Instant::now();
        let words = "sends more than 1048576 bytes as the receipt of session s1";
        contains(
            &bench.fails(),
            &["backend_unavailable", words, "PROVER_BONSAI_MAX_RECEIPT_BYTES"],
        );
        assert!(begun.elapsed() < bench.config.transfer_timeout);
        assert_eq!(engine.created(), 1);
    }
}

#[test]
fn a_receipt_as_long_as_the_limit_is_read_and_one_byte_more_is_not() {
    let engine = Engine::new(dev_receipt());
    let mut bench = Bench::new(&engine);
    bench.config.max_receipt_bytes = dev_receipt().len() - 1;
    contains(&bench.fails(), &["sends more than"]);
    // The proof is not lost: the session is kept, and there is no second one.
    bench.config.max_receipt_bytes += 1;
    bench.proves();
    assert_eq!(engine.created(), 1);
}

#[test]
fn an_answer_without_end_is_not_read() {
    for beginning in ["GET /images", "GET /inputs", "POST /sessions", "GET /sessions/status"] {
        let engine = Engine::with(dev_receipt(), move |call, _| {
            call.line.starts_with(beginning).then_some(Reply::Endless)
        });
        contains(&Bench::new(&engine).fails(), &["sends more than 65536 bytes"]);
    }
}

#[test]
fn a_body_that_drips_ends_at_the_limit_of_time() {
    let engine = Engine::with(dev_receipt(), |call, memory| {
        let drips = call.line.starts_with("GET /receipts/stark");
        drips.then(|| Reply::Drip(memory.receipt.clone(), Duration::from_millis(20)))
    });
    let mut bench = Bench::new(&engine);
    bench.config.transfer_timeout = Duration::from_millis(200);
    bench.config.max_sessions = 1;
    let begun = Instant::now();
    let words = "did not answer the receipt of session s1 within 200ms";
    contains(&bench.fails(), &["its receipt cannot be had", words]);
    // Three attempts.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn urls_that_name_another_host_lead_to_the_engine() {
    let other = Engine::new(Vec::new());
    let elsewhere = other.url();
    let engine = Engine::with(dev_receipt(), move |call, memory| {
        let url = |path: &str| format!("{elsewhere}{path}");
        let line = call.line.as_str();
        if let Some(id) = line.strip_prefix("GET /images/upload/") {
            return Some(Reply::json(
                serde_json::json!({"url": url(&format!("/images/upload/{id}"))}),
            ));
        }
        match line {
            "GET /inputs/upload" => {
                let url = url("/inputs/upload/i1");
                Some(Reply::json(serde_json::json!({"url": url, "uuid": "i1"})))
            }
            "GET /sessions/status/s1" => {
                memory.receipts.insert("s1".to_owned(), memory.receipt.clone());
                let url = url("/receipts/stark/receipt/s1");
                Some(Reply::json(serde_json::json!({"status": "SUCCEEDED", "receipt_url": url})))
            }
            _ => None,
        }
    });
    let bench = Bench::new(&engine);
    bench.proves();
    assert_eq!(other.memory(|memory| memory.calls.len()), 0);
    assert_eq!(engine.memory(|memory| memory.count("PUT")), 2);
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Engine::new(dev_receipt());
    for status in [301, 302, 307, 308] {
        let place = other.url();
        let engine = Engine::with(dev_receipt(), move |call, _| {
            let (_, path) = call.line.split_once(' ')?;
            let headers = vec![("location", format!("{place}{path}"))];
            Some(Reply::Http(status, headers, Vec::new()))
        });
        let bench = Bench::new(&engine);
        let words = format!("sends us to another address (HTTP {status})");
        contains(&bench.fails(), &["backend_unavailable", &words, "is not followed"]);
        assert_eq!(engine.memory(|memory| memory.calls.len()), 1);
    }
    assert_eq!(other.memory(|memory| memory.calls.len()), 0);
}

#[test]
fn an_id_that_would_lead_elsewhere_is_not_used() {
    for id in ["../../admin", "s1/../../x", "s1?x=1", "s1%2f..", "", "s1\n"] {
        let engine = Engine::with(dev_receipt(), move |call, _| {
            (call.line == "POST /sessions/create")
                .then(|| Reply::json(serde_json::json!({ "uuid": id })))
        });
        let error = Bench::new(&engine).fails();
        contains(&error, &["named no session", "an id that is empty, too long or has other"]);
        // It was taken three times, and nothing was asked about it.
        engine.memory(|memory| {
            assert_eq!(memory.count("POST"), 3);
            assert_eq!((memory.count("GET /sessions"), memory.count("GET /receipts")), (0, 0));
        });
    }
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "GET /inputs/upload")
            .then(|| Reply::json(serde_json::json!({"url": "http://x/y", "uuid": "../z"})))
    });
    contains(&Bench::new(&engine).fails(), &["not the Bonsai dialect", "an id that is empty"]);
    assert_eq!(engine.memory(|memory| memory.count("PUT /y")), 0);
}

#[test]
fn what_is_no_dialect_is_said_to_be_none() {
    let engine =
        Engine::with(dev_receipt(), |_, _| Some(Reply::status(200, "<html>welcome</html>")));
    let words = ["not the Bonsai dialect", "is this the address of its REST API?"];
    contains(&Bench::new(&engine).fails(), &words);
    let engine = Engine::with(dev_receipt(), |_, _| Some(Reply::status(404, "no such page")));
    contains(&Bench::new(&engine).fails(), &["HTTP 404", "is this the address of its REST API?"]);
}

#[test]
fn the_key_goes_to_the_engine_and_nowhere_else() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        let key = call.headers.get("x-api-key").map(|key| key.to_str().expect("text").to_owned());
        // An engine that quotes the key that it refuses.
        (key.as_deref() != Some("right-key-1"))
            .then(|| Reply::status(401, &format!("no such key: {key:?}")))
    });
    let mut bench = Bench::new(&engine);
    contains(
        &bench.fails(),
        &["backend_unavailable", "refuses the key (HTTP 401)", "--engine-key-file"],
    );

    let file = bench.folder.path().join("key");
    bench.config.key_file = Some(file.clone());
    contains(&bench.fails(), &["was not asked", "holds no key", "put the engine's key alone"]);
    fs::write(&file, "wrong-key-2\n").unwrap();
    let error = bench.fails();
    contains(&error, &["refuses the key (HTTP 401)"]);
    assert!(!error.contains("wrong-key-2"), "{error}");
    assert!(!format!("{:?}", bench.prover()).contains("wrong-key-2"));

    // It is read for each request: a new one needs no restart.
    fs::write(&file, "right-key-1\n").unwrap();
    bench.proves();
    bench.prover().self_test().unwrap();
    let without = |line: &str| !line.contains("key");
    assert!(engine.memory(|memory| memory.lines().into_iter().all(without)), "in no URL");
}

#[test]
fn a_key_that_the_engine_quotes_is_in_no_error() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        let key = call.headers["x-api-key"].to_str().expect("text").to_owned();
        match call.line.as_str() {
            "GET /inputs/upload" => Some(Reply::status(422, &format!("{key} is used up"))),
            _ => None,
        }
    });
    let mut bench = Bench::new(&engine);
    let file = bench.folder.path().join("key");
    fs::write(&file, "a-secret-key").unwrap();
    bench.config.key_file = Some(file);
    let error = bench.fails();
    contains(&error, &["refuses where an input goes (HTTP 422: … is used up)"]);
}
