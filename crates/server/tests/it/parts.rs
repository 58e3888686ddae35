//! A proof in parts: a server divides it, clients prove it, and whoever hands in another part than it was asked for is refused.

use crate::common::{Chain, Echo, Hand, artifact_file, client_config, config, http, until};
use client::{
    Cancel, Client, Execution, Progress, ProofSystem, ProveError, Prover, prover::PartFiles,
};
use protocol::{
    ArtifactRef, Capability, Heartbeat, JobId, JobState, NoWork, Part, PartWork, ProofData,
    ProofKind, Request, Response, Submit, Verdict, paths,
};
use server::{Config, Planner, Running, Server};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use verifier::{Claim, Plan};

/// A run of eight segments and three batches of keccak permutations: those of an input are its hash, hashed again and again.
fn plan(input: &[u8], segment_po2: u32) -> Plan {
    let id = |n: u32| {
        *ArtifactRef::of(&[input, &n.to_le_bytes(), &segment_po2.to_le_bytes()].concat())
            .sha256
            .as_bytes()
    };
    Plan {
        segment_po2,
        states: (0..9).map(id).collect(),
        keccak: (20..23).map(id).collect(),
        public_values: input.to_vec(),
    }
}

fn proof(plan: &Plan, work: &PartWork) -> Vec<u8> {
    let claim = match *work {
        PartWork::Segments { first, end } | PartWork::Join { first, end } => {
            Claim::Segments(first..end)
        }
        PartWork::Keccak { first, end } => Claim::Keccak(first..end),
        PartWork::Unite { end } => Claim::Keccak(0..end),
        PartWork::Finish => return plan.public_values.clone(),
    };
    verifier::plan::exec_part(plan, &claim)
}

/// Proves parts, and writes down which.
#[derive(Default)]
struct Helper {
    echo: Echo,
    takes: Duration,
    made: Arc<Mutex<Vec<String>>>,
}

impl Prover for Helper {
    fn system(&self) -> ProofSystem {
        ProofSystem::Exec
    }

    fn program_id(&self) -> alloy_primitives::B256 {
        alloy_primitives::B256::ZERO
    }

    fn danger(&self) -> Option<&str> {
        Some("exec")
    }

    fn kinds(&self) -> Vec<ProofKind> {
        vec![ProofKind::Part, ProofKind::Succinct]
    }

    fn prove(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        self.made.lock().unwrap().push("whole".into());
        self.echo.prove(input, kind, cancel, progress)
    }

    fn prove_part(
        &self,
        _input: &Path,
        part: &PartFiles,
        cancel: &Cancel,
        _progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < self.takes {
            cancel.check()?;
            std::thread::sleep(Duration::from_millis(2));
        }
        for file in &part.proofs {
            assert!(fs::metadata(file).is_ok(), "what it is made of is there");
        }
        self.made.lock().unwrap().push(part.work.to_string());
        Ok(proof(&Plan::decode(&fs::read(&part.plan).unwrap()).unwrap(), &part.work))
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        self.echo.execute(input)
    }
}

fn splitting(dir: &Path) -> Config {
    Config { kind: ProofKind::Succinct, split: true, split_segment_po2: Some(20), ..config(dir) }
}

async fn serve(config: Config, chain: &Chain) -> Running {
    let planner = Planner::new(|input, po2| Ok(plan(input, po2).encode()));
    Server::start_with(config, Some(chain.clone()), Some(planner)).await.unwrap()
}

impl Hand {
    async fn ask(&self, kinds: &[ProofKind]) -> Result<Response, NoWork> {
        let system = ProofSystem::Exec;
        let able = Capability::new(system, alloy_primitives::B256::ZERO, true);
        let able = Capability { kinds: kinds.to_vec(), segment_po2: Some(20), ..able };
        let request =
            Request { client: self.client, capabilities: vec![able], wait_ms: 3_000, origin: None };
        match self.post(paths::REQUEST, ProofData::Request(request)).await {
            ProofData::Response(response) => Ok(response),
            ProofData::NoWork(none) => Err(none),
            other => panic!("{other:?}"),
        }
    }

    async fn part(&self) -> (Response, Part) {
        for _ in 0..20 {
            if let Ok(response) = self.ask(&[ProofKind::Part]).await {
                let part = response.part.clone().expect("it is for a part");
                return (response, part);
            }
        }
        panic!("no part is lent");
    }

    pub(crate) async fn download(&self, artifact: &ArtifactRef) -> Vec<u8> {
        let get = self.http.get(format!("{}{}", self.url, paths::artifact(&artifact.sha256)));
        get.send().await.unwrap().bytes().await.unwrap().to_vec()
    }

    pub(crate) async fn hand_in(&self, job: &Response, proof: Vec<u8>) -> Verdict {
        let artifact = ArtifactRef::of(&proof);
        let put = self.http.put(format!("{}{}", self.url, paths::artifact(&artifact.sha256)));
        assert!(put.body(proof).send().await.unwrap().status().is_success());
        let submit = Submit {
            client: self.client,
            lease: job.lease,
            system: job.system,
            program_id: job.program_id,
            kind: job.kind,
            proof: artifact,
        };
        match self.post(&paths::submit(&job.job), ProofData::Submit(submit)).await {
            ProofData::SubmitAck(ack) => ack.verdict,
            other => panic!("{other:?}"),
        }
    }
}

async fn parts_of(server: &Running, job: JobId) -> Vec<protocol::JobSummary> {
    let history = http().get(format!("{}{}", server.url(), paths::history(&job)));
    history.send().await.unwrap().json::<protocol::JobHistory>().await.unwrap().parts
}

async fn whole_jobs(server: &Running) -> Vec<protocol::JobSummary> {
    let jobs = http().get(format!("{}{}", server.url(), paths::JOBS));
    jobs.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_clients_make_one_proof_and_it_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(3);
    let server = serve(splitting(dir.path()), &chain).await;
    let made = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for name in ["one", "two", "three"] {
        let helper =
            Helper { takes: Duration::from_millis(20), made: made.clone(), ..Helper::default() };
        let config = client_config(dir.path(), name, &server.url());
        clients.push(Client::start(config, Arc::new(helper)).await.unwrap());
    }
    until("all is proved", async || server.status().await.unwrap().proved_through == Some(3)).await;
    let counts = server.status().await.unwrap().counts;
    assert_eq!((counts.proved, counts.ready, counts.dead), (3, 0, 0), "parts are not counted");
    let jobs = whole_jobs(&server).await;
    assert_eq!(jobs.len(), 3, "parts are listed with the job whose proof they make: {jobs:?}");
    for job in jobs {
        assert_eq!((job.state, job.kind), (JobState::Proved, ProofKind::Succinct));
        let parts = parts_of(&server, job.job).await;
        let segments = parts.iter().filter_map(|part| match part.part.unwrap().work {
            PartWork::Segments { first, end } if part.state == JobState::Proved => {
                Some(end - first)
            }
            _ => None,
        });
        assert_eq!(segments.sum::<u32>(), 8, "each segment is proven once");
        let finish = parts.iter().find(|part| part.part.unwrap().work == PartWork::Finish).unwrap();
        assert_eq!(finish.proof, job.proof, "the last part's proof is the whole one's");
    }
    let proofs = http().get(format!("{}{}?after=0", server.url(), paths::PROOFS));
    let proofs: Vec<protocol::ProvedBatch> = proofs.send().await.unwrap().json().await.unwrap();
    assert!(proofs.iter().all(|batch| batch.proofs.len() == 1), "{proofs:?}");
    let made = made.lock().unwrap().clone();
    assert!(!made.contains(&"whole".to_owned()), "{made:?}");
    for client in clients {
        client.stop().await;
    }
    server.stop().await;
    let report = server::fsck::run(&splitting(dir.path())).await.unwrap();
    assert_eq!(report.findings, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_was_not_asked_for_is_refused_and_the_batch_ends_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(1);
    let server = serve(splitting(dir.path()), &chain).await;
    let url = server.url();
    type Bad = (&'static str, fn(&Plan, &PartWork, &[u8]) -> Vec<u8>, &'static str);
    let bads: [Bad; 6] = [
        (
            "of another range",
            |plan, work, _| {
                let (first, end) = work.range();
                let claim = match work {
                    PartWork::Keccak { .. } => Claim::Keccak((first + 1) % 3..(first + 1) % 3 + 1),
                    _ if plan.segments() == end => Claim::Segments(first - 1..end),
                    _ => Claim::Segments(first..end + 1),
                };
                verifier::plan::exec_part(plan, &claim)
            },
            "it is a proof of",
        ),
        (
            "of another input",
            |plan_, work, input| {
                let other = [&[1], &input[1..]].concat();
                proof(&plan(&other, plan_.segment_po2), work)
            },
            "it is a part of another plan",
        ),
        (
            "of another segment size",
            |plan_, work, input| proof(&plan(input, plan_.segment_po2 - 1), work),
            "it is a part of another plan",
        ),
        (
            "with a flipped byte",
            |plan, work, _| {
                let mut proof = proof(plan, work);
                *proof.last_mut().unwrap() ^= 1;
                proof
            },
            "it is a part of another plan",
        ),
        (
            "that is the whole statement",
            |plan, _, _| plan.public_values.clone(),
            "not a part of an exec proof",
        ),
        (
            "of another kind",
            |plan, work, _| {
                let claim = match work {
                    PartWork::Keccak { .. } => Claim::Segments(0..1),
                    _ => Claim::Keccak(0..1),
                };
                verifier::plan::exec_part(plan, &claim)
            },
            "it is a proof of",
        ),
    ];
    for (n, (what, bad, reason)) in bads.into_iter().enumerate() {
        let hand = Hand::new(&url, u8::try_from(n + 1).unwrap());
        let (response, part) = hand.part().await;
        let known = Plan::decode(&hand.download(&part.plan).await).unwrap();
        let input = hand.download(&response.prover_inputs).await;
        let verdict = hand.hand_in(&response, bad(&known, &part.work, &input)).await;
        let Verdict::Rejected { reason: told } = verdict else {
            panic!("a part {what}: {verdict:?}")
        };
        let asked = format!(
            "the job asks for {} of a run of 8 segments of at most 2^20 cycles: ",
            part.work
        );
        assert!(told.starts_with(&asked) && told.contains(reason), "a part {what}: {told}");
        let status = server.status().await.unwrap();
        let client = status.clients.iter().find(|client| client.client == hand.client).unwrap();
        assert_eq!((client.rejected, client.failed), (1, 1), "its client gets the strike");
    }
    let config = client_config(dir.path(), "honest", &url);
    let honest = Client::start(config, Arc::new(Helper::default())).await.unwrap();
    until("it is proved", async || server.status().await.unwrap().proved_through == Some(1)).await;
    honest.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_were_proved_outlive_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(1);
    let server = serve(splitting(dir.path()), &chain).await;
    let hand = Hand::new(&server.url(), 1);
    let mut done = Vec::new();
    for _ in 0..3 {
        let (response, part) = hand.part().await;
        let known = Plan::decode(&hand.download(&part.plan).await).unwrap();
        assert_eq!(hand.hand_in(&response, proof(&known, &part.work)).await, Verdict::Accepted);
        done.push(part.work.to_string());
    }
    server.stop().await;

    let server = serve(splitting(dir.path()), &chain).await;
    let helper = Arc::new(Helper::default());
    let client = client_config(dir.path(), "helper", &server.url());
    let client = Client::start(client, helper.clone()).await.unwrap();
    until("it is proved", async || server.status().await.unwrap().proved_through == Some(1)).await;
    let made = helper.made.lock().unwrap().clone();
    assert!(done.iter().all(|work| !made.contains(work)), "{done:?} were proved before {made:?}");
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_no_longer_divides_lends_the_job_whole() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(1);
    let server = serve(splitting(dir.path()), &chain).await;
    let hand = Hand::new(&server.url(), 1);
    let (held, _) = hand.part().await;
    server.stop().await;

    let whole = Config { split: false, ..splitting(dir.path()) };
    let server = Server::start(whole.clone(), Some(chain.clone())).await.unwrap();
    let hand = Hand::new(&server.url(), 1);
    let beat = Heartbeat { client: hand.client, lease: held.lease, progress: None, instance: None };
    let ProofData::HeartbeatAck(ack) =
        hand.post(&paths::heartbeat(&held.job), ProofData::Heartbeat(beat)).await
    else {
        panic!("no answer");
    };
    assert_eq!(ack.advice, protocol::Advice::Cancel, "nobody needs the part");
    let helper = Arc::new(Helper::default());
    let client = client_config(dir.path(), "helper", &server.url());
    let client = Client::start(client, helper.clone()).await.unwrap();
    until("it is proved", async || server.status().await.unwrap().proved_through == Some(1)).await;
    assert_eq!(*helper.made.lock().unwrap(), ["whole"]);
    client.stop().await;
    server.stop().await;
    assert_eq!(server::fsck::run(&whole).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_makes_no_parts_gets_the_whole_if_nobody_makes_parts() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(splitting(dir.path()), &Chain::new(1)).await;
    let old = Hand::new(&server.url(), 1);
    for _ in 0..20 {
        if let Ok(response) = old.ask(&[ProofKind::Composite, ProofKind::Succinct]).await {
            assert_eq!((response.kind, response.part), (ProofKind::Succinct, None));
            server.stop().await;
            return;
        }
    }
    panic!("it starves");
}

#[tokio::test]
async fn a_server_that_shall_divide_and_cannot_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let error = Server::start(splitting(dir.path()), None::<witness::Nodes>).await.unwrap_err();
    assert!(error.to_string().contains("needs the prover's executable"), "{error}");
    let config = Config { kind: ProofKind::Composite, ..splitting(dir.path()) };
    let error = Server::start(config, None::<witness::Nodes>).await.unwrap_err();
    assert!(error.to_string().contains("needs succinct proofs"), "{error}");
}

/// Anybody can compute a part's id, and hand in garbage for one that nobody has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_for_a_part_that_nobody_has_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(splitting(dir.path()), &Chain::new(1)).await;
    let url = server.url();
    let mut parts = Vec::new();
    // Divided when somebody asks who can prove parts: this one goes again at once.
    let hand = Hand::new(&url, 1);
    let (held, _) = hand.part().await;
    until("all parts are there", async || {
        let job = whole_jobs(&server).await[0].job;
        parts = parts_of(&server, job).await;
        parts.len() >= 3
    })
    .await;
    let stranger = Hand::new(&url, 2);
    let segments = |part: &&protocol::JobSummary| {
        part.state == JobState::Ready && part.part.unwrap().work.name() == "segments"
    };
    for part in parts.iter().filter(segments) {
        let lease = protocol::LeaseId::from_bytes([7; 16]);
        let verdict = stranger
            .hand_in(&Response { job: part.job, lease, ..held.clone() }, b"garbage".to_vec())
            .await;
        assert!(matches!(verdict, Verdict::Rejected { .. }), "{verdict:?}");
    }
    let config = client_config(dir.path(), "honest", &url);
    let honest = Client::start(config, Arc::new(Helper::default())).await.unwrap();
    let fail = protocol::Fail {
        client: hand.client,
        lease: held.lease,
        class: protocol::FailureClass::Cancelled,
        message: String::new(),
    };
    hand.post(&paths::fail(&held.job), ProofData::Fail(fail)).await;
    until("it is proved", async || server.status().await.unwrap().proved_through == Some(1)).await;
    honest.stop().await;
    server.stop().await;
    assert_eq!(server::fsck::run(&splitting(dir.path())).await.unwrap().findings, []);
}

/// What the disk loses of a proof in parts is made again, and nobody is to blame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_plan_and_a_lost_part_are_made_again() {
    for lose_plan in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let chain = Chain::new(2);
        let server = serve(splitting(dir.path()), &chain).await;
        let hand = Hand::new(&server.url(), 1);
        let (response, part) = hand.part().await;
        let known = Plan::decode(&hand.download(&part.plan).await).unwrap();
        let made = proof(&known, &part.work);
        let lost = if lose_plan { part.plan } else { ArtifactRef::of(&made) };
        assert_eq!(hand.hand_in(&response, made).await, Verdict::Accepted);
        fs::remove_file(artifact_file(&splitting(dir.path()), &lost.sha256)).unwrap();
        let config = client_config(dir.path(), "honest", &server.url());
        let honest = Client::start(config, Arc::new(Helper::default())).await.unwrap();
        until("all is proved", async || server.status().await.unwrap().proved_through == Some(2))
            .await;
        let status = server.status().await.unwrap();
        assert!(status.clients.iter().all(|client| client.rejected == 0), "{status:?}");
        honest.stop().await;
        server.stop().await;
        assert_eq!(server::fsck::run(&splitting(dir.path())).await.unwrap().findings, []);
    }
}

/// A client of another program, or one that can hold no segments, is no help, and keeps nobody from the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_help_keeps_nobody_from_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(splitting(dir.path()), &Chain::new(1)).await;
    let useless = Hand::new(&server.url(), 1);
    let able = Capability {
        kinds: vec![ProofKind::Part],
        segment_po2: Some(0),
        ..Capability::new(ProofSystem::Exec, alloy_primitives::B256::ZERO, true)
    };
    let other = Capability {
        segment_po2: Some(20),
        ..Capability { program_id: alloy_primitives::B256::repeat_byte(7), ..able.clone() }
    };
    let request = Request {
        client: useless.client,
        capabilities: vec![able, other],
        wait_ms: 0,
        origin: None,
    };
    let answer = useless.post(paths::REQUEST, ProofData::Request(request)).await;
    assert!(matches!(answer, ProofData::NoWork(_)), "{answer:?}");
    let old = Hand::new(&server.url(), 2);
    for _ in 0..20 {
        if let Ok(response) = old.ask(&[ProofKind::Succinct]).await {
            assert_eq!(response.part, None);
            server.stop().await;
            return;
        }
    }
    panic!("it starves");
}

/// Segments that no client can hold any more are given up for smaller ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_nobody_can_hold_are_made_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let (lease, heartbeat) = (Duration::from_secs(1), Duration::from_millis(200));
    let config = Config { split_segment_po2: None, lease, heartbeat, ..splitting(dir.path()) };
    let server = serve(config, &Chain::new(1)).await;
    let ask = async |n: u8, segment_po2| {
        let hand = Hand::new(&server.url(), n);
        let able = Capability {
            kinds: vec![ProofKind::Part],
            segment_po2: Some(segment_po2),
            ..Capability::new(ProofSystem::Exec, alloy_primitives::B256::ZERO, true)
        };
        let request =
            Request { client: hand.client, capabilities: vec![able], wait_ms: 1_500, origin: None };
        let ProofData::Response(response) =
            hand.post(paths::REQUEST, ProofData::Request(request)).await
        else {
            return None;
        };
        // It gives it back, as one does whose prover is set up anew.
        let fail = protocol::Fail {
            client: hand.client,
            lease: response.lease,
            class: protocol::FailureClass::Cancelled,
            message: String::new(),
        };
        hand.post(&paths::fail(&response.job), ProofData::Fail(fail)).await;
        response.part
    };
    let mut sizes = Vec::new();
    for (n, po2) in [(1, 4_000_000_000), (1, 17), (1, 17), (1, 17), (1, 17)] {
        sizes.extend(ask(n, po2).await.map(|part| part.segment_po2));
    }
    assert_eq!(sizes.last(), Some(&17), "{sizes:?}");
    assert!(sizes.iter().all(|po2| (16..=22).contains(po2)), "{sizes:?}");
    server.stop().await;
}
