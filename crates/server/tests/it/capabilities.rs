//! What clients say of themselves, and how fast they are: what is kept of it, and what is shown.

use crate::{
    common::{Chain, Echo, Hand, client_config, config, http, serve, until},
    store::{Place, at, client, on_both_stores},
};
use client::Hardware;
use protocol::{
    Capability, ClientSummary, Gpu, InstanceId, Origin, ProofData, ProofSystem, Request, paths,
};
use std::{sync::Arc, time::Duration};

on_both_stores! {
    what_a_client_says_of_itself_is_kept_within_bounds
    a_client_is_as_fast_as_its_latest_proofs_show
}

fn able() -> Capability {
    Capability::new(ProofSystem::Exec, alloy_primitives::B256::ZERO, false)
}

fn gpu(name: &str, memory_bytes: u64) -> Gpu {
    Gpu { name: name.into(), memory_bytes }
}

async fn what_a_client_says_of_itself_is_kept_within_bounds(place: &Place) {
    let store = place.open().await;
    let honest = Capability {
        segment_po2: Some(20),
        engine: Some("risc0 3.1.0-rc.1 cuda".into()),
        memory_bytes: Some(64 << 30),
        gpus: vec![gpu("NVIDIA L4", 23_034 << 20)],
        ..able()
    };
    let hostile = Capability {
        engine: Some("\u{0}\u{1b}[2J".to_owned() + &"x".repeat(1 << 20)),
        memory_bytes: Some(u64::MAX),
        gpus: vec![gpu(&"\u{202e}\n\u{fc}".repeat(1_000), u64::MAX); 1_000],
        ..able()
    };
    let shown = async |n| {
        let all = store.clients(at(2)).await.unwrap();
        all.into_iter().find(|it| it.client == client(n)).unwrap()
    };
    store.describe_client(client(1), "rack 7", std::slice::from_ref(&honest), at(1)).await.unwrap();
    assert_eq!(shown(1).await.capabilities, std::slice::from_ref(&honest));

    let many = vec![hostile; 16];
    store.describe_client(client(2), &"\u{0}y".repeat(100), &many, at(1)).await.unwrap();
    let kept = shown(2).await;
    assert_eq!(kept.name, Some("y".repeat(64)));
    assert_eq!(kept.capabilities.len(), 4);
    for capability in &kept.capabilities {
        let engine = capability.engine.as_ref().unwrap();
        assert_eq!(*engine, "[2J".to_owned() + &"x".repeat(61));
        assert_eq!((capability.memory_bytes, capability.gpus.len()), (Some(u64::MAX), 16));
        for gpu in &capability.gpus {
            assert_eq!(gpu.name.chars().count(), 64);
            assert!(!gpu.name.chars().any(char::is_control), "{gpu:?}");
        }
    }
    // The next process of that client is another one, and one of an earlier version says nothing.
    store.describe_client(client(2), "rack 8", std::slice::from_ref(&honest), at(2)).await.unwrap();
    assert_eq!(shown(2).await.capabilities, [honest]);
    store.describe_client(client(2), "rack 8", &[able()], at(2)).await.unwrap();
    assert_eq!(shown(2).await.capabilities, [able()]);
    let listed = store.list_clients(None, 10, at(3)).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|client| client.cycles_per_second.is_none()));
}

async fn a_client_is_as_fast_as_its_latest_proofs_show(place: &Place) {
    let store = crate::store::store(place, 1).await;
    let leased = crate::store::lease(&store, 1, at(1)).await.unwrap();
    let mut seen = Vec::new();
    for speed in [Some(1_000), None, Some(3_000), Some(u64::MAX), Some(u64::MAX), Some(0)] {
        store.record_shown(leased.job, client(1), None, speed).await.unwrap();
        seen.push(store.clients(at(2)).await.unwrap()[0].cycles_per_second.unwrap());
    }
    assert_eq!(seen[..3], [1_000, 1_000, 2_000]);
    assert!(seen[4] > 1 << 59 && seen[5] == seen[4] / 2, "{seen:?}");
}

#[tokio::test]
async fn an_operator_sees_what_a_client_is_and_how_fast_it_proves() {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(config(dir.path()), &Chain::new(5)).await;
    let settings = client::Config {
        name: Some("rack 7".into()),
        ..client_config(dir.path(), "client", &running.url())
    };
    let hardware =
        Hardware { memory_bytes: Some(8 << 30), gpus: vec![gpu("NVIDIA L4", 23_034 << 20)] };
    let prover = Echo { takes: Duration::from_millis(20), hardware, ..Echo::default() };
    let client = client::Client::start(settings, Arc::new(prover)).await.unwrap();
    until("5 are proved", async || running.status().await.unwrap().counts.proved == 5).await;
    let shown = running.status().await.unwrap().clients.remove(0);
    assert_eq!(shown.name.as_deref(), Some("rack 7"));
    let [capability] = &shown.capabilities[..] else { panic!("{shown:?}") };
    assert_eq!((capability.memory_bytes, capability.gpus.len()), (Some(8 << 30), 1));
    // The last block is estimated at a million cycles, the others at a thousand.
    assert!(shown.cycles_per_second.is_some_and(|speed| speed > 0), "{shown:?}");
    client.stop().await;

    // A process that says something else later is shown as it is then.
    let hand = Hand::new(&running.url(), 9);
    for po2 in [21, 20] {
        let origin = Origin {
            instance: InstanceId::from_bytes([9; 16]),
            name: "by hand".into(),
            host: "here".into(),
        };
        let able = Capability { segment_po2: Some(po2), ..able() };
        let request = Request {
            client: hand.client,
            capabilities: vec![able],
            wait_ms: 0,
            origin: Some(origin),
        };
        hand.post(paths::REQUEST, ProofData::Request(request)).await;
        let list = http().get(format!("{}{}", running.url(), paths::CLIENTS)).send().await.unwrap();
        let list: Vec<ClientSummary> = list.json().await.unwrap();
        let shown = list.iter().find(|it| it.client == hand.client).unwrap();
        assert_eq!(shown.capabilities[0].segment_po2, Some(po2));
    }
    running.stop().await;
}
