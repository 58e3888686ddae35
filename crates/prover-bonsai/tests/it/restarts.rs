//! Restarts of either side: sessions that are found again, forgotten, left behind, and never begun twice without need.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use client::Prover;
use client::prover::{Cancel, ProofKind};

use crate::engine::{Engine, Reply};
use crate::{Bench, INPUT, dev_receipt, hasty};

/// Of the other process: the engine's URL and the folder.
const ENGINE: &str = "PROVER_BONSAI_TEST_ENGINE";
const FOLDER: &str = "PROVER_BONSAI_TEST_FOLDER";

/// Not a test of its own: what `another_process` does.
#[test]
fn proves_in_another_process() {
    let (Ok(url), Ok(folder)) = (env::var(ENGINE), env::var(FOLDER)) else { return };
    let real = crate::Real::dev_block();
    let local = std::sync::Arc::new(crate::Known(real.statement.clone()));
    let config = hasty(&url, &PathBuf::from(folder));
    let prover = prover_bonsai::BonsaiProver::with_local(config, local).unwrap();
    let proof = prover.prove(INPUT, ProofKind::Succinct, &Cancel::new(), &|_| {});
    assert!(proof.unwrap() == real.proof);
}

/// Proves in a process of its own, with the sessions of `bench`.
pub(crate) fn another_process(bench: &Bench, url: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "restarts::proves_in_another_process"])
        .env(ENGINE, url)
        .env(FOLDER, bench.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Proves in a process of its own, and kills that with SIGKILL as soon as the engine is asked for this and answers nothing.
fn killed_at(bench: &Bench, engine: &Engine, beginning: &str) {
    let mut child = another_process(bench, &engine.url()).spawn().unwrap();
    while engine.memory(|memory| memory.count(beginning)) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_prover_killed_before_its_first_question_goes_on_with_the_same_session() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "GET /sessions/status/s1" && call.before == 0).then_some(Reply::Hang)
    });
    let bench = Bench::new(&engine);
    killed_at(&bench, &engine, "GET /sessions/status");
    assert_eq!((engine.created(), bench.kept()), (1, 1));
    bench.proves();
    assert_eq!(engine.created(), 1, "exactly one session");
    assert_eq!(engine.memory(|memory| memory.count("PUT /inputs")), 1, "sent once");
}

#[test]
fn a_prover_killed_while_it_asks_for_a_session_counts_one_as_begun() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "POST /sessions/create" && call.before == 0).then_some(Reply::Hang)
    });
    let mut bench = Bench::new(&engine);
    killed_at(&bench, &engine, "POST /sessions/create");
    let path = fs::read_dir(&bench.config.sessions).unwrap().find_map(|file| {
        let path = file.unwrap().path();
        path.extension().is_some_and(|is| is == "json").then_some(path)
    });
    let note: serde_json::Value =
        serde_json::from_slice(&fs::read(path.unwrap()).unwrap()).unwrap();
    assert_eq!((&note["sessions"], note.get("session")), (&1.into(), None));
    // The cap holds across restarts.
    bench.config.max_sessions = 1;
    let error = bench.fails();
    assert!(
        error.contains("took this work 1 times") && error.contains("ended meanwhile"),
        "{error}"
    );
    assert_eq!(engine.created(), 0);
    bench.proves();
}

#[test]
fn the_cap_holds_across_restarts() {
    // Each process is ended by a refused key, as good as killed, after its session was begun.
    let engine = Engine::with(dev_receipt(), |call, memory| {
        let (_, session) = call.line.split_once("/sessions/status/")?;
        let memory = (&mut memory.sessions, session.to_owned());
        memory.0.remove(&memory.1);
        Some(match call.before {
            0 => Reply::status(401, ""),
            _ => Reply::status(500, ""),
        })
    });
    let bench = Bench::new(&engine);
    let mut errors = Vec::new();
    for _ in 0..4 {
        errors.push(bench.fails());
    }
    assert!(errors[..3].iter().all(|error| error.contains("refuses the key")), "{errors:?}");
    assert!(errors[3].contains("no longer knows session s3, after 3 sessions"), "{errors:?}");
    assert_eq!((engine.created(), bench.kept()), (3, 0));
}

#[test]
fn an_engine_that_was_started_anew_gets_program_and_input_again() {
    let engine = Engine::with(dev_receipt(), |call, memory| {
        if call.line == "GET /sessions/status/s1" && call.before == 1 {
            memory.programs.clear();
            memory.inputs.clear();
            memory.sessions.clear();
        }
        None
    });
    let bench = Bench::new(&engine);
    bench.proves();
    engine.memory(|memory| {
        assert_eq!(memory.created, 2);
        assert_eq!((memory.count("PUT /images"), memory.count("PUT /inputs")), (2, 2));
    });
}

#[test]
fn an_engine_that_was_started_anew_before_the_session_gets_all_again() {
    for status in [400, 404, 500] {
        let engine = Engine::with(dev_receipt(), move |call, memory| {
            (call.line == "POST /sessions/create" && call.before == 0).then(|| {
                memory.programs.clear();
                memory.inputs.clear();
                Reply::status(status, "unknown image_id")
            })
        });
        Bench::new(&engine).proves();
        assert_eq!(engine.memory(|memory| memory.count("PUT /images")), 2, "{status}");
    }
}

#[test]
fn a_receipt_that_survived_the_engines_restart_is_fetched() {
    // r0vm keeps receipts in files, and all else in memory.
    let engine = Engine::with(dev_receipt(), |call, memory| {
        if call.line == "GET /sessions/status/s1" && call.before == 1 {
            memory.sessions.clear();
            memory.receipts.insert("s1".to_owned(), memory.receipt.clone());
        }
        None
    });
    let bench = Bench::new(&engine);
    bench.proves();
    assert_eq!(engine.created(), 1, "nothing is proven twice");
}

#[test]
fn sessions_of_other_inputs_are_stopped_when_nobody_waits_for_them() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "GET /sessions/status/s1" && call.before == 0).then_some(Reply::Hang)
    });
    let mut bench = Bench::new(&engine);
    killed_at(&bench, &engine, "GET /sessions/status");
    let other = |bench: &Bench| {
        let prover = bench.prover();
        prover.prove(b"another input", ProofKind::Succinct, &Cancel::new(), &|_| {}).unwrap();
    };
    other(&bench);
    assert_eq!(engine.memory(|memory| memory.stopped.len()), 0, "somebody may still come for it");
    assert_eq!(bench.kept(), 1);
    bench.config.abandoned_after = Duration::ZERO;
    other(&bench);
    assert_eq!(engine.memory(|memory| memory.stopped.clone()), ["s1"]);
    assert_eq!(bench.kept(), 0);
}

#[test]
fn two_provers_do_not_wait_for_the_same_session() {
    let engine = Engine::with(dev_receipt(), |call, memory| {
        (call.line == "GET /sessions/status/s1" && memory.stopped.is_empty())
            .then(|| Reply::running("init"))
    });
    let bench = Bench::new(&engine);
    thread::scope(|scope| {
        let first = scope.spawn(|| bench.proves());
        while engine.memory(|memory| memory.count("GET /sessions/status")) == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let error = bench.fails();
        assert!(error.contains("works on this already"), "{error}");
        engine.memory(|memory| memory.stopped.push("the first goes on".to_owned()));
        first.join().unwrap();
    });
    assert_eq!(engine.created(), 1);
}
