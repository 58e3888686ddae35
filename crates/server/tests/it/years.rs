//! A server after years: lists in pages, what is forgotten, upgrades of the database, and what operators decided.

use crate::{
    common::{Chain, config, http, serve, until},
    postgres::Postgres,
    store::{
        Place, at, by, client, lease, lease_under, offer, on_both_stores, state, store, submit,
    },
};
use protocol::{
    AuditEntry, ChangeJobs, ChangedJobs, DeadCause, JobState, JobsDeed, ProofKind, ProvedBatch,
    Verdict, paths,
};
use server::{
    artifacts::{Artifacts, Place as Stored, Sharing},
    jobs::{Target, Tip},
    maintenance::gc,
    store::{Actor, JobFilter, JobStore, Retention, Submitted, Switch},
};
use std::time::Duration;

on_both_stores! {
    lists_come_in_pages
    the_jobs_that_clients_have_are_shown_behind_any_number_of_newer_ones
    many_jobs_are_changed_at_once_and_it_is_recorded_by_whom
    proofs_come_in_the_order_of_the_chain_up_to_the_first_gap
    what_was_settled_long_ago_is_forgotten_and_nothing_else
    garbage_is_removed_while_somebody_writes
    what_an_operator_turned_on_stays_on
    no_statement_scans_what_grows
}

/// Proves the next job of client 1.
async fn prove(store: &JobStore, seconds: u64) {
    let leased = lease(store, 1, at(seconds)).await.expect("a job is ready");
    let submit = submit(&leased, &seconds.to_be_bytes());
    let wanted = store.submit(leased.job, &submit, at(seconds)).await.unwrap().value;
    assert!(matches!(wanted, Submitted::Verify(_)));
    let verdict = store.judge(leased.job, &submit, Ok(()), at(seconds)).await.unwrap().value;
    assert_eq!(verdict, Verdict::Accepted);
}

async fn lists_come_in_pages(place: &Place) {
    let store = store(place, 9).await;
    for seconds in 1..=4 {
        prove(&store, seconds).await;
    }
    let blocks = async |mut filter: JobFilter, limit| {
        let (mut pages, mut found) = (0, Vec::new());
        loop {
            let page = store.list(&filter, limit).await.unwrap();
            pages += 1;
            let mut page_blocks: Vec<_> =
                page.items.iter().map(|job| job.block_numbers.first()).collect();
            assert!(page_blocks.is_sorted(), "the newest last");
            page_blocks.append(&mut found);
            found = page_blocks;
            match page.next {
                Some(next) => filter.before = Some(next),
                None => return (found, pages),
            }
        }
    };
    let all = JobFilter::default;
    assert_eq!(blocks(all(), 4).await, ((1..=9).collect(), 3));
    assert_eq!(blocks(all(), 9).await, ((1..=9).collect(), 2), "the last page may be empty");
    let of = |state| JobFilter { state: Some(state), ..all() };
    assert_eq!(blocks(of(JobState::Proved), 3).await, ((1..=4).collect(), 2));
    assert_eq!(blocks(of(JobState::Ready), 100).await, ((5..=9).collect(), 1));
    assert_eq!(blocks(JobFilter { blocks: 3..=6, ..all() }, 3).await, ((3..=6).collect(), 2));
    // As long a range as it takes to look at jobs one after the other.
    let long = JobFilter { blocks: 3..=9_000, ..of(JobState::Ready) };
    assert_eq!(blocks(long, 2).await.0, (5..=9).collect::<Vec<_>>());
    assert_eq!(blocks(JobFilter { blocks: 70..=80, ..all() }, 3).await, (vec![], 1));

    let troubled = || JobFilter { troubled: true, ..all() };
    assert!(blocks(troubled(), 3).await.0.is_empty());
    let lost = lease(&store, 1, at(10)).await.unwrap();
    assert!(lease(&store, 2, at(100)).await.is_some(), "the first client fell silent");
    assert_eq!(blocks(troubled(), 3).await.0, [lost.blocks.first()]);
    store.cancel(store.jobs().await.unwrap()[8].job, &by(), at(101)).await.unwrap();
    assert_eq!(blocks(troubled(), 1).await.0, [lost.blocks.first(), 9]);

    for n in 3..=7 {
        offer(&store, n, at(200 + u64::from(n))).await;
    }
    let first = store.list_clients(None, 3, at(300)).await.unwrap();
    assert_eq!(first.iter().map(|it| it.client).collect::<Vec<_>>(), [7, 6, 5].map(client));
    let last = first.last().map(|it| (server::clock::Timestamp(it.last_seen), it.client));
    let rest = store.list_clients(last, 9, at(300)).await.unwrap();
    assert_eq!(rest.iter().map(|it| it.client).collect::<Vec<_>>(), [4, 3, 2, 1].map(client));
    store.close().await;
}

async fn the_jobs_that_clients_have_are_shown_behind_any_number_of_newer_ones(place: &Place) {
    let store = store(place, 130).await;
    let held = lease(&store, 1, at(1)).await.unwrap();
    assert_eq!(held.blocks.first(), 1);
    let jobs = store.jobs().await.unwrap();
    assert_eq!((jobs.len(), jobs[0].job, jobs[0].client), (101, held.job, Some(client(1))));
    assert_eq!(jobs[1].block_numbers.first(), 31);
    // And its client behind any number of others.
    for n in 2..=120 {
        offer(&store, n, at(5)).await;
    }
    assert!(store.clients(at(6)).await.unwrap().iter().any(|it| it.client == client(1)));
    store.close().await;
}

async fn many_jobs_are_changed_at_once_and_it_is_recorded_by_whom(place: &Place) {
    let store = store(place, 8).await;
    let ask = |deed, state| ChangeJobs {
        deed,
        state,
        cause: None,
        first: None,
        last: None,
        client: None,
        set_aside: false,
        after: None,
        dry_run: false,
    };
    let target = crate::store::TARGET;
    let change = async |asked: &ChangeJobs, seconds| {
        store.change(asked, &target.into(), &Actor::new("ann"), at(seconds)).await.unwrap()
    };
    let counted = |matched, changed| ChangedJobs { matched, changed, next: None };

    let held = lease(&store, 1, at(1)).await.unwrap();
    let some =
        ChangeJobs { first: Some(2), last: Some(4), ..ask(JobsDeed::Cancel, JobState::Ready) };
    let dry = ChangeJobs { dry_run: true, ..some.clone() };
    assert_eq!(change(&dry, 2).await, counted(3, 0));
    assert_eq!(change(&some, 2).await, counted(3, 3));
    let its = ChangeJobs { client: Some(client(1)), ..ask(JobsDeed::Cancel, JobState::Leased) };
    assert_eq!(
        change(&ChangeJobs { client: Some(client(2)), ..its.clone() }, 3).await,
        counted(0, 0)
    );
    assert_eq!(change(&its, 3).await, counted(1, 1));
    assert_eq!(state(&store, held.job).await, JobState::Dead);
    // What is open was not given up for anything.
    let open =
        ChangeJobs { cause: Some(DeadCause::Budget), ..ask(JobsDeed::Cancel, JobState::Ready) };
    assert_eq!(change(&open, 3).await, counted(0, 0));
    let aside = ChangeJobs { set_aside: true, ..ask(JobsDeed::Cancel, JobState::Ready) };
    assert_eq!(change(&aside, 4).await, counted(0, 0), "what is wanted is not set aside");
    let other = Target { program_id: alloy_primitives::B256::repeat_byte(1), ..target };
    let old = store.change(&aside, &other.into(), &by(), at(4)).await.unwrap();
    assert_eq!(old, counted(4, 4));

    let budget =
        ChangeJobs { cause: Some(DeadCause::Budget), ..ask(JobsDeed::Requeue, JobState::Dead) };
    assert_eq!(change(&budget, 5).await, counted(0, 0));
    let cancelled = ChangeJobs { cause: Some(DeadCause::Cancelled), ..budget };
    assert_eq!(change(&cancelled, 5).await, counted(8, 8));
    assert_eq!(store.counts(&target.into()).await.unwrap().ready, 8);

    let first = store.audit(None, 5).await.unwrap();
    let AuditEntry { at: when, actor, deed, subject, .. } = &first.items[0];
    assert_eq!((*when, &**actor, &**deed), (at(5).0, "ann", "requeue"));
    assert!(subject.starts_with("job "), "{subject}");
    let rest = store.audit(first.next, 100).await.unwrap();
    assert_eq!((first.items.len() + rest.items.len(), rest.next), (16, None));
    assert_eq!(rest.items.iter().filter(|it| it.actor == by().to_string()).count(), 4);
    store.close().await;
}

async fn proofs_come_in_the_order_of_the_chain_up_to_the_first_gap(place: &Place) {
    let store = store(place, 6).await;
    let blocks = |proofs: &[ProvedBatch]| -> Vec<u64> {
        proofs.iter().map(|batch| batch.block_numbers.first()).collect()
    };
    assert_eq!(store.proofs(0, 10).await.unwrap(), []);
    for seconds in 1..=3 {
        prove(&store, seconds).await;
    }
    let skipped = lease(&store, 2, at(4)).await.unwrap();
    assert_eq!(skipped.blocks.first(), 4);
    prove(&store, 5).await;
    let proofs = store.proofs(0, 10).await.unwrap();
    assert_eq!(blocks(&proofs), [1, 2, 3], "block 4 is not proved, block 5 is");
    assert_eq!(blocks(&store.proofs(1, 1).await.unwrap()), [2]);
    assert_eq!(store.proofs(u64::MAX, 10).await.unwrap(), []);
    let job = store.job(proofs[0].proofs[0].job).await.unwrap();
    assert_eq!(Some(proofs[0].proofs[0].proof), job.proof);
    assert!(!proofs[0].is_final);
    let end = Tip { last: 2, last_hash: Chain::new(6).hash(2) };
    store.finalize(end).await.unwrap();
    let finals: Vec<_> =
        store.proofs(0, 10).await.unwrap().iter().map(|batch| batch.is_final).collect();
    assert_eq!(finals, [true, true, false]);
    store.close().await;
}

async fn what_was_settled_long_ago_is_forgotten_and_nothing_else(place: &Place) {
    let store = store(place, 8).await;
    for seconds in 1..=6 {
        prove(&store, seconds).await;
    }
    // A reorg, and back to another block 8.
    let chain = Chain::new(8);
    let tip = store.tip().await.unwrap();
    store.supersede(8, tip, at(7)).await.unwrap();
    let day = Duration::from_secs(86_400);
    let keep = Retention { age: day, until_delivered: false };
    let late = at(2 * 86_400);
    let forget = async |keep: &Retention, now| store.forget(keep, now).await.unwrap().batches;
    assert_eq!(forget(&keep, late).await, 0, "nothing is final");
    store.finalize(Tip { last: 5, last_hash: chain.hash(5) }).await.unwrap();
    assert_eq!(forget(&keep, at(86_000)).await, 0, "it is too young");
    let delivered = Retention { until_delivered: true, ..keep };
    assert_eq!(forget(&delivered, late).await, 0, "nobody has the proofs");
    store.delivered(&Actor::new("settlement"), 2, at(10)).await.unwrap();
    store.delivered(&Actor::new("settlement"), 1, at(11)).await.unwrap();
    assert_eq!(forget(&delivered, late).await, 2, "it has those of two blocks");
    assert_eq!(forget(&keep, late).await, 2, "the last final batch stays");
    let audit = store.audit(None, 9).await.unwrap().items;
    let audit: Vec<_> = audit.iter().map(|it| (&*it.actor, &*it.deed, &*it.subject)).collect();
    assert_eq!(audit, [("the server", "forget", "2 batches"); 2]);
    let left: Vec<_> = store
        .list(&JobFilter::default(), 99)
        .await
        .unwrap()
        .items
        .iter()
        .map(|it| it.block_numbers.first())
        .collect();
    assert_eq!(left, [5, 6, 7, 8], "the batch off the chain may come back: its block is not final");
    let targets = crate::store::TARGET.into();
    let counts = store.counts(&targets).await.unwrap();
    assert_eq!((counts.proved, counts.ready, counts.superseded), (2, 1, 1));
    assert_eq!(store.proved_through(&targets).await.unwrap(), Some(6));
    assert_eq!(store.finalized().await.unwrap(), Some(5));
    // The chain goes on from where it was.
    assert_eq!(store.tip().await.unwrap().map(|tip| tip.last), Some(7));
    prove(&store, 20).await;
    store.finalize(Tip { last: 7, last_hash: chain.hash(7) }).await.unwrap();
    assert_eq!(forget(&keep, at(4 * 86_400)).await, 2);
    let clients = store.clients(late).await.unwrap();
    assert_eq!(clients.len(), 1, "its leases are on record");
    let artifacts = Artifacts::open(
        &Stored::Folder(tempfile::tempdir().unwrap().path().into(), Sharing::Alone),
        1 << 20,
    );
    let report = store.fsck(&artifacts.unwrap()).await.unwrap();
    let wrong: Vec<_> =
        report.findings.iter().filter(|it| !it.subject.starts_with("artifact")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    store.close().await;
}

async fn garbage_is_removed_while_somebody_writes(place: &Place) {
    let store = store(place, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let artifacts =
        Artifacts::open(&Stored::Folder(folder.path().into(), Sharing::Alone), 1 << 20).unwrap();
    for n in 0..250_u32 {
        artifacts.put(n.to_be_bytes().to_vec()).await.unwrap();
    }
    let chain = Chain::new(2);
    let needed = chain.prepared(protocol::BlockRange::new(1, 1).unwrap()).input;
    artifacts.put(needed).await.unwrap();
    // Somebody holds what there is to hold for as long as it takes.
    let writing = store.database().begin().await.unwrap();
    let collect = gc::collect(&store, &artifacts, Duration::ZERO, false);
    let garbage = tokio::time::timeout(Duration::from_secs(60), collect).await;
    let garbage = garbage.expect("it waits for nobody").unwrap();
    assert_eq!((garbage.removed, garbage.kept), (250, 1));
    drop(writing);
    store.close().await;
}

async fn what_an_operator_turned_on_stays_on(place: &Place) {
    let store = store(place, 1).await;
    store.switch(Switch::Drain, true, &by(), at(1)).await.unwrap();
    store.switch(Switch::Drain, true, &by(), at(2)).await.unwrap();
    store.close().await;
    let store = place.open().await;
    let found = store.switches().await.unwrap();
    assert_eq!((found.draining, found.paused), (Some(at(1)), None));
    store.switch(Switch::Drain, false, &by(), at(3)).await.unwrap();
    store.switch(Switch::Pause, true, &by(), at(3)).await.unwrap();
    let found = store.switches().await.unwrap();
    assert_eq!((found.draining, found.paused), (None, Some(at(3))));
    store.close().await;
}

/// The tables that grow with the years.
const GROWING: [&str; 8] =
    ["jobs", "batches", "leases", "submissions", "clients", "audit", "unproved", "settlements"];

/// Some thousand settled batches.
const YEARS: &str = "
    INSERT INTO batches (first, last, parent_hash, last_hash, statement, statement_digest, input, input_len, gas_used, transactions,
        created_at, final) SELECT n, n, '', '', '', int8send(n), int8send(n), 0, 0, 0, 0, 1 FROM generate_series(100000, 120000) n;
    INSERT INTO clients (id, first_seen, last_seen) SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), 0, n
        FROM generate_series(100000, 110000) n;
    INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at, finished_at, proof, proof_len,
        proved_by) SELECT decode(lpad(to_hex(first), 32, '0'), 'hex'), id, 'exec', decode(repeat('00', 32), 'hex'), 'composite',
        'proved', 0, 0, 0, 0, 0, int8send(first), 1, '' FROM batches WHERE first >= 100000;
    INSERT INTO leases (id, job, client, granted_at, ended_at, outcome)
        SELECT id, id, id, 0, 1, 'proved' FROM jobs WHERE proved_by = '';
    INSERT INTO submissions (job, lease, proof, proof_len, client, system, program_id, kind, received_at, verdict)
        SELECT id, id, id, 1, id, 'exec', '', 'composite', 0, 'accepted' FROM jobs WHERE proved_by = '';
    INSERT INTO audit (at, actor, deed, subject) SELECT 0, '', '', '' FROM generate_series(1, 20000);
    INSERT INTO settlements (rollup, first, last, parent_hash, last_hash, state, call, nonce)
        SELECT '', n, n, '', '', 'final', '', n FROM generate_series(1, 20000) n;
    ANALYZE;
";

/// What may be looked at from one end to the other. Indexes of few rows: what is leased, waits, failed, or is off the chain;
/// indexes in the order in which the first rows, of which there are few, are asked for; and the newest jobs.
const BOUNDED: [&str; 14] = [
    "jobs_held",
    "jobs_expiring",
    "jobs_superseded",
    "jobs_proven_cycles",
    "clients_quarantined",
    "batches_not_final",
    "batches_superseded",
    "batches_on_chain",
    "batches_length",
    "clients_heard",
    "submissions_open",
    "submissions_open_proof",
    "unproved_first",
    "(SELECT seq FROM jobs ORDER BY seq DESC LIMIT 100)",
];

/// Says how a statement finds its rows, if it looks at all rows of a table that grows.
async fn scans(store: &JobStore, sql: &str) -> Vec<String> {
    use sqlx::{AssertSqlSafe, Executor, Row};
    let mut wrong = Vec::new();
    if store.database().shared().is_none() {
        let plan = format!("EXPLAIN QUERY PLAN {sql}");
        let rows = sqlx::query(AssertSqlSafe(plan)).fetch_all(store.database().readers()).await;
        let details: Vec<String> = rows.unwrap().iter().map(|row| row.get("detail")).collect();
        for detail in details {
            let words: Vec<_> = detail.split(' ').collect();
            let newest = detail == "SCAN jobs" && sql.contains(BOUNDED[13])
                || detail == "SCAN batches"
                    && sql.contains("FROM batches ORDER BY id DESC LIMIT 1");
            let bounded = newest || BOUNDED.iter().any(|index| detail.ends_with(index));
            if words[0] == "SCAN" && GROWING.contains(&words[1]) && !bounded {
                wrong.push(detail);
            }
        }
        return wrong;
    }
    let mut connection = store.database().readers().acquire().await.unwrap();
    for setting in ["SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan"] {
        connection.execute(setting).await.unwrap();
    }
    let parameters = (1..=100).rev().find(|at| sql.contains(&format!("${at}"))).unwrap_or(0);
    let nulls = vec!["NULL"; parameters].join(", ");
    let nulls = if parameters > 0 { format!("({nulls})") } else { String::new() };
    connection.execute(AssertSqlSafe(format!("PREPARE looked_at AS {sql}"))).await.unwrap();
    let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN EXECUTE looked_at{nulls}")))
        .persistent(false)
        .fetch_all(&mut *connection)
        .await;
    let lines: Vec<String> = plan.unwrap().iter().map(|row| row.get(0)).collect();
    for (at, line) in lines.iter().enumerate() {
        let table = line.split(" on ").nth(1).and_then(|rest| rest.split(' ').next());
        let scan = line.contains("Seq Scan on ")
            || line.contains(" Scan ")
                && !lines[at + 1..].first().is_some_and(|next| next.contains("Cond:"));
        let newest = line.contains("jobs_pkey") && sql.contains(BOUNDED[13]);
        let bounded =
            newest || BOUNDED.iter().any(|index| line.contains(&format!("using {index} on")));
        if scan && !bounded && table.is_some_and(|table| GROWING.contains(&table)) {
            wrong.push(line.trim().to_owned());
        }
    }
    connection.execute("DEALLOCATE looked_at").await.unwrap();
    wrong
}

async fn no_statement_scans_what_grows(place: &Place) {
    let heard = statements::listen();
    // A bit of everything that servers do.
    let store = store(place, 6).await;
    let targets = crate::store::TARGET.into();
    store.restart(at(0)).await.unwrap();
    prove(&store, 1).await;
    let leased = lease(&store, 1, at(2)).await.unwrap();
    store.heartbeat(leased.job, leased.lease.id, at(3)).await.unwrap();
    let failed = protocol::Fail {
        client: client(1),
        lease: leased.lease.id,
        class: protocol::FailureClass::BackendFailed,
        message: "on fire".into(),
    };
    store.fail(leased.job, &failed, at(3)).await.unwrap();
    lease(&store, 2, at(4)).await.unwrap();
    lease(&store, 3, at(4_000)).await.unwrap();
    let wrong = lease(&store, 4, at(4_000)).await.unwrap();
    let handed_in = submit(&wrong, b"wrong");
    let _ = store.submit(wrong.job, &handed_in, at(4_001)).await.unwrap();
    assert_eq!(store.unjudged(at(9_000)).await.unwrap().len(), 1);
    store.precedence(wrong.job, &handed_in).await.unwrap();
    let able =
        protocol::Capability::new(protocol::ProofSystem::Exec, alloy_primitives::B256::ZERO, true);
    store.look(client(4), std::slice::from_ref(&able), at(4_001)).await.unwrap();
    store
        .ready_for(&[(able.system, able.program_id, ProofKind::Composite)], 9, at(4_001))
        .await
        .unwrap();
    store.heard(&[client(4)].into(), at(4_001)).await.unwrap();
    store.describe_client(client(4), "gpu-4", &[], at(4_001)).await.unwrap();
    let input = store.input_of(wrong.job).await.unwrap();
    assert!(store.replace_input(&input, input.input, at(4_001)).await.unwrap());
    assert!(store.lose_proof(wrong.job, &handed_in, at(4_001)).await.unwrap());
    let wrong = lease(&store, 5, at(4_001)).await.unwrap();
    let _taken = store.take_back(wrong.job, wrong.lease.id, at(4_001)).await.unwrap();
    let handed_in = submit(&wrong, b"wrong");
    let _ = store.submit(wrong.job, &handed_in, at(4_001)).await.unwrap();
    let rejection = server::jobs::verification::Rejection::WrongStatement;
    let _ = store.judge(wrong.job, &handed_in, Err(rejection), at(4_002)).await.unwrap();
    // What newcomers under a token do.
    let newcomer = lease_under(&store, 1, client(11), at(4_002)).await.unwrap();
    let handed_in = submit(&newcomer, b"right");
    let _ = store.submit(newcomer.job, &handed_in, at(4_002)).await.unwrap();
    let _ = store.judge(newcomer.job, &handed_in, Ok(()), at(4_002)).await.unwrap();
    store.record_shown(wrong.job, client(11), Some(7), Some(8)).await.unwrap();
    store.cost_correction().await.unwrap();
    for n in 20..30 {
        offer(&store, n, at(4_003)).await;
    }
    store.figures(&targets, at(4_004), Duration::from_secs(60)).await.unwrap();
    store.ready(&targets).await.unwrap();
    store.set_aside(&targets).await.unwrap();
    let other =
        Target { program_id: alloy_primitives::B256::repeat_byte(1), ..crate::store::TARGET };
    for stranded in store.stranded(&other.into()).await.unwrap() {
        store.rescue(&stranded, &other.into(), at(4_005)).await.unwrap();
    }
    store.jobs().await.unwrap();
    store.held().await.unwrap();
    store.history(wrong.job).await.unwrap();
    for state in [None, Some(JobState::Proved), Some(JobState::Superseded)] {
        for (troubled, blocks) in [(false, 0..=u64::MAX), (true, 2..=3), (false, 1..=1 << 40)] {
            let filter = JobFilter {
                state,
                troubled,
                blocks,
                before: Some(1 << 40),
                ..JobFilter::default()
            };
            store.list(&filter, 50).await.unwrap();
        }
    }
    store.clients(at(4_006)).await.unwrap();
    store.list_clients(Some((at(4_006), client(9))), 10, at(4_006)).await.unwrap();
    store.audit(Some(9), 10).await.unwrap();
    store.proofs(0, 10).await.unwrap();
    store.end_before(3).await.unwrap();
    let tip = store.tip().await.unwrap();
    store.supersede(6, tip, at(4_007)).await.unwrap();
    store.finalize(Tip { last: 2, last_hash: Chain::new(6).hash(2) }).await.unwrap();
    store.finalized().await.unwrap();
    let asked = ChangeJobs {
        deed: JobsDeed::Cancel,
        state: JobState::Ready,
        cause: None,
        first: Some(3),
        last: None,
        client: Some(client(1)),
        set_aside: true,
        after: None,
        dry_run: false,
    };
    store.change(&asked, &targets, &by(), at(4_008)).await.unwrap();
    store
        .decide(client(1), server::jobs::standing::StandingEvent::Release, &by(), at(4_009))
        .await
        .unwrap();
    let keep = Retention { age: Duration::ZERO, until_delivered: true };
    store.delivered(&by(), 9, at(4_010)).await.unwrap();
    store.forget(&keep, at(9_000)).await.unwrap();
    store.fold_counts().await.unwrap();
    crate::settlements::settle(&store).await;
    let folder = tempfile::tempdir().unwrap();
    let artifacts =
        Artifacts::open(&Stored::Folder(folder.path().into(), Sharing::Alone), 1 << 20).unwrap();
    for n in 0..100_u32 {
        artifacts.put(n.to_be_bytes().to_vec()).await.unwrap();
    }
    gc::collect(&store, &artifacts, Duration::ZERO, false).await.unwrap();

    let heard: Vec<String> = heard.lock().unwrap().iter().cloned().collect();
    if let Place::Postgres(postgres) = place {
        // What PostgreSQL plans depends on how much there is.
        sqlx::Executor::execute(&mut postgres.admin().await, YEARS).await.unwrap();
    }
    let looked_at: Vec<_> = heard
        .iter()
        .filter(|sql| {
            ["SELECT", "UPDATE", "DELETE", "INSERT", "WITH"]
                .iter()
                .any(|verb| sql.trim_start().starts_with(verb))
        })
        .filter(|sql| GROWING.iter().any(|table| sql.contains(table)))
        .collect();
    assert!(looked_at.len() > 50, "only {} statements were heard", looked_at.len());
    let mut wrong = String::new();
    for sql in looked_at {
        for plan in scans(&store, sql).await {
            wrong.push_str(&format!("{plan}\n    in {sql}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    store.close().await;
}

/// What sqlx says of the statements of this process. (nextest gives each test one of its own.)
mod statements {
    use std::{
        collections::BTreeSet,
        fmt,
        sync::{Arc, Mutex},
    };
    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };

    type Heard = Arc<Mutex<BTreeSet<String>>>;

    /// What is heard from now on.
    pub(super) fn listen() -> Heard {
        let heard = Heard::default();
        tracing::subscriber::set_global_default(Ear(heard.clone())).unwrap();
        heard
    }

    struct Ear(Heard);

    #[derive(Default)]
    struct Said {
        summary: String,
        statement: String,
    }

    impl Visit for Said {
        fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}

        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "summary" => value.clone_into(&mut self.summary),
                "db.statement" => value.clone_into(&mut self.statement),
                _ => {}
            }
        }
    }

    impl Subscriber for Ear {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "sqlx::query"
        }

        fn new_span(&self, _span: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _span: &Id, _values: &Record<'_>) {}

        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut said = Said::default();
            event.record(&mut said);
            let whole = said.statement.trim();
            let sql = if whole.is_empty() { said.summary } else { whole.to_owned() };
            self.0.lock().unwrap().insert(sql);
        }

        fn enter(&self, _span: &Id) {}

        fn exit(&self, _span: &Id) {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_do_over_http_is_recorded_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let settings = server::Config {
        auth: server::config::Auth::Required,
        ready_jobs: 3,
        ..config(dir.path())
    };
    let server = serve(settings.clone(), &Chain::new(3)).await;
    let (operator, secret) = crate::common::token(&settings, server::tokens::Role::Operator).await;
    let (_, consumer) = crate::common::token(&settings, server::tokens::Role::Consumer).await;
    let call = |method: reqwest::Method, path: &str, token: &str| {
        http().request(method, format!("{}{path}", server.url())).bearer_auth(token)
    };
    until("the jobs and the tokens are there", async || {
        let answer = call(reqwest::Method::GET, paths::STATUS, &secret).send().await.unwrap();
        answer.status().is_success()
            && answer.json::<protocol::Status>().await.unwrap().counts.ready == 3
    })
    .await;
    let page: reqwest::Response =
        call(reqwest::Method::GET, "/v1/jobs?limit=2", &secret).send().await.unwrap();
    let link = page.headers()["link"].to_str().unwrap().to_owned();
    assert_eq!(link, "</v1/jobs?before=2&limit=2>; rel=\"next\"");
    assert_eq!(page.json::<Vec<protocol::JobSummary>>().await.unwrap().len(), 2);
    let page =
        call(reqwest::Method::GET, "/v1/jobs?before=2&limit=2", &secret).send().await.unwrap();
    assert!(page.headers().get("link").is_none());
    let jobs: Vec<protocol::JobSummary> = page.json().await.unwrap();
    assert_eq!(jobs.len(), 1);

    let status = |answer: reqwest::Response| answer.status().as_u16();
    let post = |path: &str| call(reqwest::Method::POST, path, &secret);
    assert_eq!(status(post(&paths::cancel(&jobs[0].job)).send().await.unwrap()), 204);
    assert_eq!(status(post(paths::DRAIN).send().await.unwrap()), 204);
    assert_eq!(status(post(paths::PAUSE).send().await.unwrap()), 204);
    let garbage = serde_json::json!({ "older_than_ms": 0 });
    assert_eq!(status(post(paths::GARBAGE).json(&garbage).send().await.unwrap()), 200);
    let requeue = serde_json::json!({ "deed": "requeue", "state": "dead" });
    let changed = post(paths::CHANGE_JOBS).json(&requeue).send().await.unwrap();
    assert_eq!(changed.json::<ChangedJobs>().await.unwrap().changed, 1);
    // What makes no sense, or may not be what it looks like, is refused.
    for senseless in [
        serde_json::json!({ "deed": "requeue", "state": "proved" }),
        serde_json::json!({ "deed": "cancel", "state": "ready", "cause": "budget" }),
        serde_json::json!({ "deed": "cancel", "state": "ready", "dryrun": true }),
    ] {
        assert_eq!(status(post(paths::CHANGE_JOBS).json(&senseless).send().await.unwrap()), 400);
    }
    let nobody_has_it = post(&paths::release(&jobs[0].job)).send().await.unwrap();
    assert_eq!(status(nobody_has_it), 409);
    let senseless = serde_json::json!({ "older_than_ms": 0, "dryrun": true });
    assert_eq!(status(post(paths::GARBAGE).json(&senseless).send().await.unwrap()), 400);
    let audit = call(reqwest::Method::GET, paths::AUDIT, &secret).send().await.unwrap();
    let audit: Vec<AuditEntry> = audit.json().await.unwrap();
    let deeds: Vec<_> = audit.iter().map(|entry| entry.deed.as_str()).collect();
    assert_eq!(deeds, ["requeue", "garbage", "pause", "drain", "cancel"]);
    let name = format!("{operator} (operator)");
    assert!(audit.iter().all(|entry| entry.actor == name), "{audit:?}");
    let now: protocol::Status = call(reqwest::Method::GET, paths::STATUS, &secret)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(now.draining_since.is_some() && now.paused_since.is_some());
    assert_eq!(
        status(call(reqwest::Method::GET, paths::AUDIT, &consumer).send().await.unwrap()),
        403
    );
    let delivered = call(reqwest::Method::POST, paths::DELIVERED, &consumer);
    // Nothing is proved yet, and nobody can say that it has more than there is.
    for through in [1, u64::MAX] {
        let delivered = delivered.try_clone().unwrap();
        let delivered = delivered.json(&serde_json::json!({ "through": through }));
        assert_eq!(status(delivered.send().await.unwrap()), 400);
    }
    let proofs = call(reqwest::Method::GET, "/v1/proofs?after=0", &consumer).send().await.unwrap();
    assert_eq!(proofs.json::<Vec<ProvedBatch>>().await.unwrap(), []);
    server.stop().await;
    // It is so after a start too.
    let server = serve(settings, &Chain::new(5)).await;
    let now = server.status().await.unwrap();
    assert!(now.draining_since.is_some() && now.paused_since.is_some());
    until("it is seen how far behind it falls", async || {
        server.status().await.unwrap().head == Some(5)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.status().await.unwrap().counts.ready, 3, "no new batch is taken in");
    server.stop().await;
}

#[tokio::test]
async fn times_in_the_future_are_named_and_set_back_by_a_command() {
    use server::clock::{Timestamp, wall};
    let dir = tempfile::tempdir().unwrap();
    let settings = config(dir.path());
    std::fs::create_dir_all(&settings.data_dir).unwrap();
    let file = settings.data_dir.join("jobs.sqlite");
    let open = async || JobStore::open(&file, crate::store::RULES).await.unwrap();
    let future = Timestamp(wall().0 + 10 * 86_400_000);
    let store = open().await;
    let targets = crate::store::TARGET.into();
    for number in 1..=2 {
        let batch = crate::store::batch(&Chain::new(2), number);
        store.enqueue(&batch, &targets, future).await.unwrap();
    }
    let first = lease(&store, 1, future).await.unwrap();
    store.prioritise(store.jobs().await.unwrap()[1].job, -2, &by(), future).await.unwrap();
    store.switch(Switch::Pause, true, &by(), future).await.unwrap();
    store.switch(Switch::Pause, false, &by(), future).await.unwrap();
    store.delivered(&by(), 0, future).await.unwrap();
    let mut tx = store.database().begin().await.unwrap();
    let struck = sqlx::query("INSERT INTO parties (id, strikes, struck_at) VALUES (x'01', 8, $1)");
    struck.bind(future.0.cast_signed()).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    store.close().await;

    // It lives in the future from now on, and says so.
    let server = serve(settings.clone(), &Chain::new(2)).await;
    let ready = http().get(format!("{}/readyz", server.url())).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let ready: protocol::Readiness = ready.json().await.unwrap();
    let wrong: Vec<_> = ready.checks.iter().filter(|check| !check.ok).collect();
    assert_eq!((wrong.len(), &*wrong[0].name), (1, "clock"));
    let running = server::correct_clock::correct(&settings).await.unwrap_err();
    assert!(matches!(running, server::Error::FolderInUse(_)), "{running}");
    server.stop().await;

    let corrected = server::correct_clock::correct(&settings).await.unwrap();
    assert!(corrected.ahead_seconds >= 10 * 86_400 - 60 && corrected.times >= 8, "{corrected:?}");
    let again = server::correct_clock::correct(&settings).await.unwrap();
    assert_eq!((again.ahead_seconds, again.times), (0, 0));
    let store = open().await;
    // No time of any table is forgotten.
    let columns = "SELECT m.name AS t, p.name AS c FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'
        AND (p.name LIKE '%\\_at' ESCAPE '\\' OR p.name LIKE '%since' OR p.name LIKE '%until' OR p.name LIKE '%seen' OR
        p.name IN ('at', 'not_before', 'lease_heard')) AND p.name NOT IN ('expires_at', 'revoked_at')";
    let columns = sqlx::query(columns).fetch_all(store.database().readers()).await.unwrap();
    assert!(columns.len() > 15, "{}", columns.len());
    for column in &columns {
        use sqlx::Row;
        let (table, column): (String, String) = (column.get("t"), column.get("c"));
        let latest = format!("SELECT coalesce(max({column}), 0) AS latest FROM {table}");
        let latest = sqlx::query(sqlx::AssertSqlSafe(latest));
        let latest: i64 = latest.fetch_one(store.database().readers()).await.unwrap().get("latest");
        assert!(latest.cast_unsigned() < wall().0 + 700_000, "{table}.{column} lies in the future");
    }
    assert_eq!(store.database().clock_ahead(), None);
    assert!(store.now().await.unwrap() < future);
    store.restart(wall()).await.unwrap();
    let held = offer(&store, 1, Timestamp(wall().0 + 1)).await;
    assert!(matches!(held, server::store::Offer::Job(leased) if leased.job == first.job));
    store.close().await;
    let server = serve(settings, &Chain::new(2)).await;
    let ready = http().get(format!("{}/readyz", server.url())).send().await.unwrap();
    assert_eq!(ready.status(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_shown_by_the_name_that_it_calls_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let settings = client::Config {
        name: Some("gpu-7".into()),
        ..crate::common::client_config(dir.path(), "client", &server.url())
    };
    let prover = std::sync::Arc::new(crate::common::Echo::default());
    let client = client::Client::start(settings, prover).await.unwrap();
    until("the client is shown", async || {
        let clients = server.status().await.unwrap().clients;
        clients.first().is_some_and(|it| it.name.as_deref() == Some("gpu-7") && it.proved == 1)
    })
    .await;
    client.stop().await;
    server.stop().await;
}

/// Takes every connection of the database's servers through a migration that adds to every table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_under_running_servers_disturbs_nobody() {
    use sqlx::Executor;
    let Some(postgres) = Postgres::start().await else { return };
    let place = Place::Postgres(postgres);
    let store = store(&place, 8).await;
    let Place::Postgres(postgres) = &place else { unreachable!() };
    // Every statement has been prepared on this connection or the next.
    for seconds in 1..=3 {
        prove(&store, seconds).await;
    }
    let held = lease(&store, 2, at(4)).await.unwrap();
    store.heartbeat(held.job, held.lease.id, at(5)).await.unwrap();
    let before = (store.jobs().await.unwrap().len(), store.clients(at(5)).await.unwrap().len());
    let mut admin = postgres.admin().await;
    for table in GROWING {
        let sql = format!("ALTER TABLE {table} ADD COLUMN later BIGINT NOT NULL DEFAULT 7");
        admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    let history = store.history(held.job).await.unwrap();
    assert_eq!(history.leases.len(), 1);
    store.heartbeat(held.job, held.lease.id, at(6)).await.unwrap();
    prove(&store, 7).await;
    let after = (store.jobs().await.unwrap().len(), store.clients(at(8)).await.unwrap().len());
    assert_eq!(before, after);
    assert_eq!(store.counts(&crate::store::TARGET.into()).await.unwrap().proved, 4);
    store.close().await;
}

#[tokio::test]
async fn only_migrate_brings_a_shared_database_to_a_later_schema() {
    use server::database::DatabaseError;
    use sqlx::{Executor, migrate::Migrator};
    let Some(postgres) = Postgres::start().await else { return };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let all = Migrator::new(folder).await.unwrap();
    let latest = all.iter().map(|it| it.version).max().unwrap();
    let mut admin = postgres.admin().await;
    let settings = server::Config {
        database: Some(postgres.url()),
        data_dir: tempfile::tempdir().unwrap().path().into(),
        ..server::Config::default()
    };
    // To look at an empty database leaves it empty.
    let plan = server::migrate::plan(&settings).await.unwrap();
    assert_eq!((plan.found, plan.pending.len()), (0, all.iter().count()));
    let tables: Option<String> = sqlx::query_scalar(
        "SELECT min(relname::text) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert_eq!(tables, None);
    // The last schema before the one that makes an index on a table that is there.
    let before = 7;
    all.run_to(before, &mut admin).await.unwrap();
    // As a server of that version leaves it.
    admin
        .execute(
            "INSERT INTO batches (first, last, parent_hash, last_hash, statement, statement_digest, input, input_len, gas_used,
             transactions, created_at) VALUES (1, 1, '', '', '', '', '', 0, 0, 0, 0);
             INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at)
             VALUES (decode(repeat('01', 16), 'hex'), 1, 'exec', decode(repeat('00', 32), 'hex'), 'composite', 'ready', 0, 0, 0, 0)",
        )
        .await
        .unwrap();
    let found = JobStore::connect(&postgres.url(), crate::store::RULES).await.unwrap_err();
    let refused = format!("{found}");
    assert!(
        refused.contains(&format!("has schema {before}")) && refused.contains("l2-prover migrate"),
        "{refused}"
    );
    let tokens = server::tokens::Tokens::open(&settings.data_dir, Some(&postgres.url())).await;
    assert!(matches!(tokens, Err(server::Error::Database(DatabaseError::Outdated { .. }))));
    let plan = server::migrate::plan(&settings).await.unwrap();
    let pending = usize::try_from(latest - before).unwrap();
    assert_eq!((plan.found, plan.needed, plan.pending.len()), (before, latest, pending));
    // An earlier attempt was cut short, and somebody is in the middle of a transaction.
    admin
        .execute(
            "CREATE INDEX jobs_next_kind ON jobs (seq);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jobs_next_kind'::regclass",
        )
        .await
        .unwrap();
    let mut slow = postgres.admin().await;
    slow.execute("BEGIN; UPDATE jobs SET priority = 1").await.unwrap();
    let meanwhile = async {
        until("an index waits for the transaction", async || {
            let waiting = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '% INDEX CONCURRENTLY %' AND wait_event_type = 'Lock'",
            );
            matches!(waiting.fetch_one(&mut admin).await, Ok(1_i64))
        })
        .await;
        // Nobody waits behind it.
        let write = "SET statement_timeout = '2s'; UPDATE batches SET gas_used = 1; SET statement_timeout = 0";
        admin.execute(write).await.unwrap();
        slow.execute("COMMIT").await.unwrap();
    };
    let (migrated, ()) = tokio::join!(server::migrate::run(&settings), meanwhile);
    assert_eq!(migrated.unwrap(), plan);
    let index = sqlx::query_scalar("SELECT pg_get_indexdef('jobs_next_kind'::regclass)");
    let index: String = index.fetch_one(&mut admin).await.unwrap();
    assert!(index.contains("(system, program_id, kind, due, seq)"), "{index}");
    let invalid = sqlx::query_scalar("SELECT count(*) FROM pg_index WHERE NOT indisvalid");
    let invalid: i64 = invalid.fetch_one(&mut admin).await.unwrap();
    assert_eq!(invalid, 0);
    assert_eq!(server::migrate::plan(&settings).await.unwrap().pending.len(), 0);

    let store = JobStore::connect(&postgres.url(), crate::store::RULES).await.unwrap();
    let targets = crate::store::TARGET.into();
    assert_eq!(store.counts(&targets).await.unwrap().ready, 1, "what was there is counted");
    assert_eq!(store.proved_through(&targets).await.unwrap(), None);
    // A server of the version before adds a job: the triggers count it.
    admin
        .execute(
            "INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at)
             VALUES (decode(repeat('02', 16), 'hex'), 1, 'exec', decode(repeat('00', 32), 'hex'), 'succinct', 'ready', 0, 0, 0, 0)",
        )
        .await
        .unwrap();
    assert_eq!(store.counts(&targets).await.unwrap().ready, 2);
    store.close().await;

    // A later version has been here, and says who may stay.
    let later = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES ({}, 'later', true, '', 0);
         UPDATE compatibility SET oldest = {latest}",
        latest + 1
    );
    admin.execute(sqlx::AssertSqlSafe(later)).await.unwrap();
    JobStore::connect(&postgres.url(), crate::store::RULES).await.unwrap().close().await;
    admin
        .execute(sqlx::AssertSqlSafe(format!("UPDATE compatibility SET oldest = {}", latest + 1)))
        .await
        .unwrap();
    let refused = JobStore::connect(&postgres.url(), crate::store::RULES).await.unwrap_err();
    assert!(refused.to_string().contains("does not fit this version"), "{refused}");
}
