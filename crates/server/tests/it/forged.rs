//! Forgeries made of real proofs: each is refused with its reason and costs its client a strike, and the job goes to the
//! next client at once.

use crate::common::{config, everything, http};
use alloy_primitives::{Address, B256, hex};
use async_trait::async_trait;
use client::BoxError;
use protocol::{ArtifactRef, BlockRange, ProofData, ProofSystem, Response, paths};
use serde_json::{Value, json};
use server::{BatchSource, Config, PreparedBatch, Running, Server};
use std::{fs, path::Path};
use witness::{HeaderSummary, cost::Estimate};

/// A chain of which only the third block is proven, and what a proof of it must state.
struct ThirdBlock(Vec<u8>);

fn hash(number: u64) -> B256 {
    B256::left_padding_from(&number.to_be_bytes())
}

#[async_trait]
impl BatchSource for ThirdBlock {
    async fn head(&self) -> Result<u64, BoxError> {
        Ok(3)
    }

    async fn block(&self, number: u64) -> Result<Option<HeaderSummary>, BoxError> {
        Ok((number <= 3).then_some(HeaderSummary { hash: hash(number), gas_used: 25_300 }))
    }

    async fn prepare(
        &self,
        blocks: BlockRange,
        _beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError> {
        Ok(PreparedBatch {
            blocks,
            parent_hash: hash(2),
            last_hash: hash(3),
            statement: self.0.clone(),
            input: b"input".to_vec(),
            gas_used: 25_300,
            transactions: 1,
            estimate: Estimate { cycles: 7, permutations: 0 },
            deposits: None,
        })
    }

    async fn finalized(&self) -> Result<Option<u64>, BoxError> {
        Ok(None)
    }

    async fn restate(&self, _input: Vec<u8>) -> Result<Vec<u8>, BoxError> {
        Ok(self.0.clone())
    }
}

/// A proof that is checked in: its bytes, its program and what it states.
fn real(name: &str) -> (Vec<u8>, B256, Vec<u8>) {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let folder = Path::new(&folder).join("../verifier/tests/fixtures");
    let about = fs::read(folder.join(format!("{name}.json"))).unwrap();
    let about: Value = serde_json::from_slice(&about).unwrap();
    let bytes = |key: &str| hex::decode(about[key].as_str().unwrap()).unwrap();
    let proof = fs::read(folder.join(format!("{name}.proof"))).unwrap();
    (proof, B256::from_slice(&bytes("program_id")), bytes("public_values"))
}

/// A server that wants a proof of this statement.
async fn serve(dir: &Path, program_id: B256, statement: &[u8]) -> (Running, Config) {
    let config = Config {
        system: ProofSystem::Risc0,
        program_id: Some(program_id),
        first_block: 3,
        danger_accept_exec: false,
        ..config(dir)
    };
    let source = ThirdBlock(statement.to_vec());
    (Server::start(config.clone(), Some(source)).await.unwrap(), config)
}

/// The job, for a client that waits so long for it.
async fn lease(url: &str, client: &str, program_id: B256, wait_ms: u64) -> Response {
    let request = json!({"type": "Request", "client": client, "wait_ms": wait_ms,
        "capabilities": [{"system": "risc0", "program_id": program_id}]});
    let answer = http().post(format!("{url}{}", paths::REQUEST)).json(&request).send().await;
    let ProofData::Response(response) = answer.unwrap().json().await.unwrap() else {
        panic!("client {client} got no job")
    };
    response
}

/// What the server says of this proof.
async fn hand_in(url: &str, client: &str, response: &Response, proof: Vec<u8>) -> Value {
    let artifact = ArtifactRef::of(&proof);
    let upload = format!("{url}{}", paths::artifact(&artifact.sha256));
    assert_eq!(http().put(upload).body(proof).send().await.unwrap().status(), 201);
    let submit = json!({"type": "Submit", "client": client, "lease": response.lease, "system": "risc0",
        "kind": "composite", "program_id": response.program_id, "proof": artifact});
    let path = format!("{url}/v1/jobs/{}/submit", response.job);
    loop {
        let answer = http().post(&path).json(&submit).send().await.unwrap();
        let verdict: Value = answer.json().await.unwrap();
        if verdict["verdict"] != "pending" {
            return verdict;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_forgery_is_refused_and_the_next_client_gets_the_job_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (proof, program_id, statement) = real("dev-block.composite");
    let (of_a_revoked_program, other_id, _) = real("revoked");
    assert_ne!(program_id, other_id);
    // The job is about a block with another post-state.
    let mut wanted = statement.clone();
    wanted[7 * 32] ^= 1;
    let (running, _) = serve(dir.path(), program_id, &wanted).await;
    let url = running.url();

    let header = [&b"L2R0"[..], &[1, 0], program_id.as_slice()].concat();
    let length = u32::try_from(wanted.len()).unwrap().to_le_bytes();
    let dev_mode = [&header[..], &length, &wanted].concat();
    let cut = proof[..proof.len() - 100].to_vec();
    // Its statement is exchanged for the one that is wanted.
    let mut exchanged = proof.clone();
    exchanged[header.len() + 4..][..wanted.len()].copy_from_slice(&wanted);
    let forgeries = [
        (proof.clone(), "the proof is of another statement than the server computed"),
        (of_a_revoked_program, "is revoked, because"),
        (cut, "malformed"),
        (dev_mode, "a dev-mode proof proves nothing"),
        (wanted.clone(), "malformed"),
        (exchanged, "the proof is invalid"),
    ];
    let mut job = None;
    for (number, (forgery, reason)) in forgeries.into_iter().enumerate() {
        let client = format!("{number}{number}").repeat(16);
        // Only the first waits, for the job to be there.
        let response = lease(&url, &client, program_id, if number == 0 { 20_000 } else { 0 }).await;
        assert_eq!(*job.get_or_insert(response.job), response.job);
        let verdict = hand_in(&url, &client, &response, forgery).await;
        assert_eq!(verdict["verdict"], "rejected", "{reason}: {verdict}");
        assert!(verdict["reason"].as_str().unwrap().contains(reason), "{reason}: {verdict}");
        let clients = running.status().await.unwrap().clients;
        let forger = clients.iter().find(|found| found.client.to_string() == client).unwrap();
        assert_eq!((forger.rejected, forger.proved), (1, 0), "a strike");
        assert!(forger.rests_until.is_some(), "and a rest");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_proof_is_accepted_and_its_cycles_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let (proof, program_id, statement) = real("dev-block.composite");
    let (running, config) = serve(dir.path(), program_id, &statement).await;
    let client = "11".repeat(16);
    let response = lease(&running.url(), &client, program_id, 20_000).await;
    let verdict = hand_in(&running.url(), &client, &response, proof).await;
    assert_eq!(verdict["verdict"], "accepted", "{verdict}");
    let kept = everything(&config).await;
    assert!(kept.contains("1048576"), "{kept}");
    running.stop().await;
}
