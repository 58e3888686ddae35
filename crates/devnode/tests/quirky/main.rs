//! Nodes as they really behave: a dev node behind a proxy that answers as reported nodes and gateways do. Alone, the blocks are
//! prepared, or the refusal says why and what to do; before a healthy node they are prepared within seconds.

mod modes;
mod proxy;

use alloy_primitives::Address;
use devnode::{Config, DevNode, Kind, Mining, Running, TrafficConfig, genesis, replay::Replay};
use modes::{NOTHING_FINAL, REFUSED, WORKS};
use program::ChainConfig;
use proxy::{Mode, Seen};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use witness::{
    Depth, Error, KnownKeys, Limits, NodeOptions, Nodes, Prepared, Recording,
    doctor::{Check, Checkup, Examination, Verdict},
    exchange, with_causes,
};

async fn dev_node() -> Running {
    let listen = ([127, 0, 0, 1], 0).into();
    let traffic =
        TrafficConfig { per_block: 12, kinds: Kind::ALL.to_vec(), ..TrafficConfig::default() };
    let (genesis, mining) = (genesis::dev(), Mining::OnDemand);
    let config = Config { listen, genesis, mining, traffic: Some(traffic), blocks: None };
    let node = DevNode::start(config).await.unwrap();
    node.mine(3).await.unwrap();
    node
}

async fn connect(node: &Running, urls: &[String], depth: Depth) -> Result<Nodes, Error> {
    let limits = Limits { answer: 8 << 20, ..Limits::default() };
    let options = NodeOptions { limits, ..NodeOptions::default() };
    Nodes::connect(urls, node.chain_config().clone(), options, depth).await
}

/// Blocks 2 and 3 from these nodes, and how long that took.
async fn prepare(node: &Running, urls: &[String]) -> (Result<Prepared, Error>, Duration) {
    let begun = Instant::now();
    let prepared = async {
        let nodes = connect(node, urls, Depth::Latest).await?;
        assert_eq!(nodes.head().await?, 3);
        nodes.prepare(2, 3, Address::ZERO).await
    };
    (prepared.await, begun.elapsed())
}

async fn expected(node: &Running) -> Prepared {
    prepare(node, &[node.url()]).await.0.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quirky_node_s_blocks_are_prepared() {
    let node = dev_node().await;
    let expected = expected(&node).await;
    let tried = WORKS.iter().map(async |(name, mode): &(&str, Mode)| {
        let url = proxy::start(node.url(), *mode).await;
        let (prepared, took) = prepare(&node, &[url]).await;
        match prepared {
            Ok(prepared) if prepared != expected => Some(format!("{name}: another input")),
            Ok(_) if took > Duration::from_secs(30) => Some(format!("{name}: took {took:?}")),
            Ok(_) => None,
            Err(error) => Some(format!("{name}: {}", with_causes(&error))),
        }
    });
    let failed: Vec<_> = futures::future::join_all(tried).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_names_the_cause_and_the_remedy() {
    let node = dev_node().await;
    let tried = REFUSED.iter().map(async |(name, mode, words): &(&str, Mode, &[&str])| {
        let url = proxy::start(node.url(), *mode).await;
        let (prepared, took) = prepare(&node, &[url]).await;
        let Err(error) = prepared else { return Some(format!("{name} was not refused")) };
        let text = with_causes(&error);
        let missing: Vec<_> = words.iter().filter(|words| !text.contains(**words)).collect();
        if took > Duration::from_secs(15) || text.len() > 1_000 {
            return Some(format!("{name}: took {took:?}: {text}"));
        }
        (!missing.is_empty()).then(|| format!("{name}: {missing:?} is not in: {text}"))
    });
    let failed: Vec<_> = futures::future::join_all(tried).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_healthy_node_a_quirky_one_costs_seconds() {
    let node = dev_node().await;
    let expected = expected(&node).await;
    let modes = WORKS.iter().map(|(name, mode)| (*name, *mode));
    let modes = modes.chain(REFUSED.iter().map(|(name, mode, _)| (*name, *mode)));
    let tried = modes.map(async |(name, mode)| {
        let urls = [proxy::start(node.url(), mode).await, node.url()];
        let (prepared, took) = prepare(&node, &urls).await;
        match prepared {
            Ok(prepared) if prepared != expected => Some(format!("{name}: another input")),
            // Some sixty modes share the machine.
            Ok(_) if took > Duration::from_secs(15) => Some(format!("{name}: took {took:?}")),
            Ok(_) => None,
            Err(error) => Some(format!("{name}: {}", with_causes(&error))),
        }
    });
    let failed: Vec<_> = futures::future::join_all(tried).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn a_node_that_wants_to_be_left_alone_does_not_delay_the_next_one() {
    let node = dev_node().await;
    let expected = expected(&node).await;
    let (_, mode, _) = REFUSED[0];
    let urls = [proxy::start(node.url(), mode).await, node.url()];
    let (prepared, took) = prepare(&node, &urls).await;
    assert_eq!(prepared.unwrap(), expected);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn before_anything_is_final_the_final_head_is_the_first_block() {
    let node = dev_node().await;
    for (name, mode) in NOTHING_FINAL {
        let url = [proxy::start(node.url(), *mode).await];
        for depth in [Depth::Safe, Depth::Finalized] {
            let nodes = connect(&node, &url, depth).await.unwrap();
            assert_eq!(nodes.head().await.unwrap(), 0, "{name}");
            assert_eq!(nodes.finalized().await.unwrap(), None, "{name}");
            assert_eq!(nodes.faults(), [], "{name}");
        }
    }
}

async fn examine(node: &Running, url: &str) -> Checkup {
    let limits = Limits { answer: 8 << 20, ..Limits::default() };
    let examination = Examination {
        url,
        ws_url: None,
        config: node.chain_config(),
        keys: &KnownKeys::default(),
        options: NodeOptions { limits, ..NodeOptions::default() },
        block: None,
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    examination.run().await.unwrap()
}

/// The checks that are not good, as one line each.
fn ills(checkup: &Checkup) -> Vec<String> {
    let ills = checkup.checks.iter().filter(|check| check.verdict != Verdict::Good);
    ills.map(|check| format!("{}: {}", check.subject, check.found)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_ails_a_node() {
    let node = dev_node().await;
    let ws_url = node.url().replacen("http", "ws", 1);
    let (url, config) = (node.url(), node.chain_config());
    let examination = Examination {
        url: &url,
        ws_url: Some(&ws_url),
        config,
        keys: &KnownKeys::default(),
        options: NodeOptions::default(),
        block: Some(2),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    let well = examination.run().await.unwrap();
    assert_eq!(ills(&well), ["rules: not told: it has no eth_config"], "{well}");
    assert!(well.usable, "{well}");
    let [told, proven, any] = &well.costs[..] else { panic!("{well}") };
    assert_eq!((told.block, told.input_bytes), (2, proven.input_bytes));
    assert!(told.calls == any.calls && told.calls * 5 < proven.calls, "{well}");

    // A clock of another time, and another chain.
    let other = Examination { now: 0, ..examination.clone() }.run().await.unwrap();
    assert!(other.usable && ills(&other)[0].contains("s in the future"), "{other}");
    let mainnet = ChainConfig::mainnet();
    let other = Examination { config: &mainnet, ..examination }.run().await.unwrap();
    assert!(!other.usable && ills(&other)[0].contains("is of chain 1337"), "{other}");

    for (name, word) in [
        (
            "r_plan",
            "witness: L2 node URL refuses debug_executionWitness: Debug and trace APIs are not",
        ),
        ("r_501", "witness: the node has no debug_executionWitness"),
        ("w_lacks", "witness: the witness of block 3 in L2 node URL is incomplete"),
        ("w_504", "witness: L2 node URL answers debug_executionWitness with HTTP status 504"),
        ("b_403", "batches: none are taken"),
        ("b_most_10", "batches: of 4 calls, not of 64"),
        ("r_raw_null", "blocks: as objects"),
    ] {
        let url = proxy::start(node.url(), mode(name)).await;
        let checkup = examine(&node, &url).await;
        assert!(checkup.usable, "{name}: {checkup}");
        let text = ills(&checkup).join("\n").replace(&url, "URL");
        assert!(text.contains(word), "{name}: {word} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_ends_whatever_a_node_is_silent_about() {
    let node = dev_node().await;
    let silent: [(&str, Mode); 4] = [
        ("witness", |asked| match asked.any_of(&["debug_executionWitness"]) {
            true => proxy::Say::Silence,
            false => proxy::Say::Node,
        }),
        ("batches", |asked| if asked.is_batch() { proxy::Say::Silence } else { proxy::Say::Node }),
        ("proofs", |asked| match asked.any_of(&["eth_getProof"]) {
            true => proxy::Say::Silence,
            false => proxy::Say::Node,
        }),
        ("blocks", |asked| match asked.any_of(&["debug_getRawBlock"]) {
            true => proxy::Say::Silence,
            false => proxy::Say::Node,
        }),
    ];
    let examined = silent.map(async |(subject, mode)| {
        let url = proxy::start(node.url(), mode).await;
        let begun = Instant::now();
        let checkup = examine(&node, &url).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(100), "{subject}: {took:?}");
        let text = ills(&checkup).join("\n");
        assert!(text.contains(&format!("{subject}: ")) && text.contains("no answer in"), "{text}");
    });
    futures::future::join_all(examined).await;
}

/// What a node that comes first may say that is not so, while the second one is healthy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_slow_or_wrong_about_headers_is_not_asked_first_for_long() {
    let node = dev_node().await;
    let healthy = connect(&node, &[node.url()], Depth::Latest).await.unwrap();
    let tip = healthy.block(3).await.unwrap().unwrap();
    let modes: [(&str, Mode); 2] = [
        ("another hash", |_| {
            proxy::Say::Edited(|mut answer| {
                if answer["result"]["hash"].is_string() {
                    answer["result"]["hash"] = format!("0x{}", "ab".repeat(32)).into();
                }
                answer
            })
        }),
        ("none", |_| {
            proxy::Say::Each(|call| {
                (proxy::method(call) == "eth_getBlockByNumber")
                    .then(|| serde_json::json!({ "id": call["id"], "result": null }))
            })
        }),
    ];
    for (name, mode) in modes {
        let urls = [proxy::start(node.url(), mode).await, node.url()];
        let nodes = connect(&node, &urls, Depth::Latest).await.unwrap();
        assert_ne!(nodes.block(3).await.unwrap(), Some(tip), "{name}");
        assert!(nodes.any_has(3, tip.hash).await, "{name}");
        assert!(!nodes.any_has(3, alloy_primitives::B256::ZERO).await, "{name}");
        // It rests, so the other one is asked.
        assert_eq!(nodes.block(3).await.unwrap(), Some(tip), "{name}");
    }

    // One that is silent about its head costs once what the others are given, and then nothing.
    let silent: Mode = |asked| match asked.any_of(&["eth_blockNumber"]) {
        true => proxy::Say::Silence,
        false => proxy::Say::Node,
    };
    let urls = [proxy::start(node.url(), silent).await, node.url()];
    let nodes = connect(&node, &urls, Depth::Latest).await.unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(nodes.head().await.unwrap(), 3);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_of_each_quirky_node_whether_it_can_be_used() {
    let node = dev_node().await;
    let well = WORKS.iter().map(|(name, mode)| (*name, *mode, true));
    let modes = well.chain(REFUSED.iter().map(|(name, mode, _)| (*name, *mode, false)));
    let examined = modes.map(async |(name, mode, usable)| {
        let url = proxy::start(node.url(), mode).await;
        let checkup = examine(&node, &url).await;
        let advised = checkup.checks.iter().any(|check| check.verdict == Verdict::Bad);
        (checkup.usable != usable || advised == usable).then(|| format!("{name}: {checkup}"))
    });
    let failed: Vec<_> = futures::future::join_all(examined).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Numbers that differ from one run to the next, left out.
fn steady(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for at in 1..words.len() {
        // The dev chain's blocks have times, so their hashes differ.
        if words[at].starts_with("0x") {
            words[at] = "0x…";
        }
        let unit = ["ms", "bytes"].iter().any(|unit| words[at].starts_with(unit))
            || words[at..].starts_with(&["s", "old"]);
        if unit && words[at - 1].starts_with(|c: char| c.is_ascii_digit()) {
            words[at - 1] = "…";
        }
    }
    words.join(" ")
}

const PAGE: &str = "\
# What the doctor says

`l2-prover doctor --rpc-url URL` of a dev node, and of the nodes that the tests imitate. The tests make this page, and fail when it differs
(`UPDATE_EXPECT=1 cargo nextest run -E 'test(the_page_of_screens)'`). What anvil and other clients need is in [nodes.md](nodes.md).

## A dev node

";

const QUIRKY: &str = "
## Nodes and gateways with faults

Each has a name in `crates/devnode/tests/quirky/modes.rs`, where it is imitated, and stands before a dev node. What the doctor finds good is left
out, and that the dev node has no `eth_config`. *Fair* is what the server has another way for; *BAD* is what stops it.

";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_screens_is_that_of_this_version() {
    let node = dev_node().await;
    let well = steady(&examine(&node, &node.url()).await.to_string());
    let mut page = format!("{PAGE}```text\n{}\n```\n{QUIRKY}", well.replace(&node.url(), "URL"));
    let mut unseen = Vec::new();
    let modes = WORKS.iter().map(|(name, mode)| (*name, *mode));
    let modes = modes.chain(REFUSED.iter().map(|(name, mode, _)| (*name, *mode)));
    let examined = modes.map(async |(name, mode)| {
        let url = proxy::start(node.url(), mode).await;
        (name, examine(&node, &url).await, url)
    });
    for (name, mut checkup, url) in futures::future::join_all(examined).await {
        checkup.costs.clear();
        let told = |check: &Check| {
            check.verdict != Verdict::Good && !check.found.contains("it has no eth_config")
        };
        checkup.checks.retain(told);
        if checkup.checks.is_empty() {
            unseen.push(format!("`{name}`"));
            continue;
        }
        let screen = steady(&checkup.to_string()).replace(&url, "URL");
        page += &format!("`{name}`\n\n```text\n{screen}\n```\n\n");
    }
    page += &format!(
        "## Faults that cost nothing but a second call\n\nOf these the doctor says nothing, since what it asked for came: {}.\n",
        unseen.join(", ")
    );
    expect_test::expect_file!["../../../../docs/doctor.md"].assert_eq(&page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_of_a_node_is_answered_again() {
    let node = dev_node().await;
    let folder = tempfile::tempdir().unwrap();
    let asked = async |url: String, record| {
        let limits = Limits { answer: 8 << 20, ..Limits::default() };
        let options = NodeOptions { limits, record, ..NodeOptions::default() };
        let config = node.chain_config().clone();
        let nodes = Nodes::connect(&[url], config, options, Depth::Latest).await;
        async { nodes?.prepare(2, 3, Address::ZERO).await }.await
    };
    let repeated = [
        // Batches, faults that pass, and answers that are no JSON.
        "t_429_now",
        "t_502",
        "t_html",
        "bt_cut",
        "b_most_10",
        "b_reordered",
        "e_string_id",
        "w_lacks",
        "w_hang_up",
    ];
    let repeated = repeated.iter().map(|name| (*name, mode(name)));
    let refused = REFUSED.iter().map(|(name, mode, _)| (*name, *mode));
    let tried = repeated.chain(refused).map(async |(name, mode)| {
        let url = format!("{}/0123456789abcdef", proxy::start(node.url(), mode).await);
        let recording = Recording::into_folder(&folder.path().join(name)).unwrap();
        let first = asked(url.clone(), Some(recording)).await;
        let mut recorded = exchange::read(&folder.path().join(name)).unwrap();
        let (_, exchanges) = recorded.pop().unwrap();
        let text = serde_json::to_string(&exchanges).unwrap();
        assert!(!text.contains("0123456789abcdef"), "{name}: the URL's key was recorded");
        let replay = Replay::start(([127, 0, 0, 1], 0).into(), exchanges).await.unwrap();
        match (first, asked(replay.url(), None).await) {
            (Ok(first), Ok(second)) => assert_eq!(first, second, "{name}"),
            (Err(first), Err(second)) => {
                let origin = url.strip_suffix("/0123456789abcdef").unwrap();
                let first = with_causes(&first).replace(origin, &replay.url());
                assert_eq!(first, with_causes(&second), "{name}");
            }
            (Ok(_), Err(error)) => panic!("{name}: only the second time: {}", with_causes(&error)),
            (Err(error), Ok(_)) => panic!("{name}: only the first time: {}", with_causes(&error)),
        }
    });
    futures::future::join_all(tried).await;
}

/// What was asked, as (in a batch, method), with how often.
fn counts(seen: &Seen) -> BTreeMap<(bool, String), u32> {
    let mut counts = BTreeMap::new();
    for ((batch, method, _), times) in &*seen.lock().unwrap() {
        *counts.entry((*batch, method.clone())).or_insert(0) += times;
    }
    counts
}

fn mode(name: &str) -> Mode {
    WORKS.iter().find(|(found, _)| *found == name).unwrap().1
}

#[tokio::test]
async fn what_failed_is_not_asked_again_for_a_while() {
    let node = dev_node().await;
    for name in ["r_words", "w_commitment", "w_type", "w_504", "r_501"] {
        let (url, seen) = proxy::start_seen(node.url(), mode(name)).await;
        let nodes = connect(&node, &[url], Depth::Latest).await.unwrap();
        nodes.prepare(1, 1, Address::ZERO).await.unwrap();
        let of = |method: &str| {
            counts(&seen).get(&(false, method.to_owned())).copied().unwrap_or_default()
        };
        let methods = ["debug_executionWitness", "debug_executionWitnessByBlockHash"];
        let first = methods.map(of);
        assert!(first.iter().all(|times| (1..=4).contains(times)), "{name}: {first:?}");
        nodes.prepare(2, 3, Address::ZERO).await.unwrap();
        assert_eq!(methods.map(of), first, "{name}");
    }
}

#[tokio::test]
async fn batches_that_are_refused_shrink_to_what_works_and_no_further() {
    let node = dev_node().await;
    let all = |seen: &Seen, batch| -> u32 {
        counts(seen).iter().filter(|((batched, _), _)| *batched == batch).map(|(_, n)| n).sum()
    };
    let (url, seen) = proxy::start_seen(node.url(), mode("b_most_10")).await;
    let nodes = connect(&node, &[url], Depth::Latest).await.unwrap();
    nodes.prepare(1, 1, Address::ZERO).await.unwrap();
    let (first, single) = (all(&seen, true), all(&seen, false));
    nodes.prepare(2, 2, Address::ZERO).await.unwrap();
    let (second, more) = (all(&seen, true) - first, all(&seen, false) - single);
    // Batches are still in use: there are fewer requests of one call than of several.
    assert!(second > 0 && more < 8, "{second} batches, {more} single calls");

    // Where none is taken, none is sent for a while.
    let (url, seen) = proxy::start_seen(node.url(), mode("b_403")).await;
    let nodes = connect(&node, &[url], Depth::Latest).await.unwrap();
    nodes.prepare(1, 1, Address::ZERO).await.unwrap();
    let batches = all(&seen, true);
    nodes.prepare(2, 2, Address::ZERO).await.unwrap();
    assert!((1..60).contains(&batches), "{batches}");
    assert_eq!(all(&seen, true), batches);
}

#[tokio::test]
async fn of_a_witness_that_lacks_nodes_only_those_are_asked_for_by_proof() {
    let node = dev_node().await;
    let asked = async |name| {
        let (url, seen) = proxy::start_seen(node.url(), mode(name)).await;
        let options = NodeOptions {
            limits: Limits { batch: 1, ..Limits::default() },
            ..NodeOptions::default()
        };
        let config = node.chain_config().clone();
        let nodes = Nodes::connect(&[url], config, options, Depth::Latest).await.unwrap();
        let prepared = nodes.prepare(2, 2, Address::ZERO).await.unwrap();
        let proofs = counts(&seen).get(&(false, "eth_getProof".to_owned())).copied();
        (prepared, proofs.unwrap_or_default())
    };
    let (complete, none) = asked("t_429_now").await;
    let (from_proofs, all) = asked("w_null").await;
    let (completed, some) = asked("w_lacks_one").await;
    assert_eq!((&from_proofs, &completed), (&complete, &complete));
    assert_eq!(none, 0);
    assert!(0 < some && some * 3 < all, "{some} of {all}");
}
