//! Engines that hang, forget, refuse, break off and go away: each row of the table of faults in docs/engines.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::prover::{Cancel, ProofKind};
use client::{ProveError, Prover};

use crate::engine::{Engine, Reply};
use crate::{Bench, INPUT, contains, dev_receipt};

#[test]
fn an_engine_that_runs_for_ever_gets_the_work_again_up_to_the_cap() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        call.line.starts_with("GET /sessions/status").then(|| Reply::running("init"))
    });
    let mut bench = Bench::new(&engine);
    bench.config.progress_deadline = Duration::from_millis(200);
    let error = bench.fails();
    contains(&error, &["timeout: ", &engine.url(), "no progress in session s3", "200ms"]);
    contains(&error, &["after 3 sessions", "restart it with all its workers"]);
    assert_eq!(engine.created(), 3);
    assert_eq!(engine.memory(|memory| memory.stopped.clone()), ["s1", "s2", "s3"]);
    assert_eq!(bench.kept(), 0, "the next attempt begins anew");
}

#[test]
fn a_worker_that_was_killed_costs_one_session() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "GET /sessions/status/s1").then(|| Reply::running("ProveSegments: 1/3"))
    });
    let mut bench = Bench::new(&engine);
    bench.config.progress_deadline = Duration::from_millis(200);
    bench.proves();
    assert_eq!(engine.created(), 2);
    assert_eq!(engine.memory(|memory| memory.stopped.clone()), ["s1"]);
}

#[test]
fn an_engine_without_a_word_for_stop_loses_the_session_all_the_same() {
    let engine = Engine::with(dev_receipt(), |call, _| match call.line.as_str() {
        "GET /sessions/status/s1" => Some(Reply::running("init")),
        "GET /sessions/stop/s1" => Some(Reply::Close),
        _ => None,
    });
    let mut bench = Bench::new(&engine);
    bench.config.progress_deadline = Duration::from_millis(100);
    bench.proves();
    assert_eq!(engine.created(), 2);
}

#[test]
fn an_engine_that_is_slow_and_moves_is_left_alone() {
    // A ready task waits behind a busy worker: every state lasts, and none as long as the deadline.
    let engine = Engine::with(dev_receipt(), |call, _| {
        let state = (call.line == "GET /sessions/status/s1" && call.before < 40)
            .then(|| format!("ProveSegments: {}/9", call.before / 5))?;
        Some(Reply::running(&state))
    });
    let mut bench = Bench::new(&engine);
    bench.config.progress_deadline = Duration::from_millis(700);
    let begun = Instant::now();
    bench.proves();
    assert!(begun.elapsed() > bench.config.progress_deadline, "it took longer than one deadline");
    assert_eq!((engine.created(), engine.memory(|memory| memory.stopped.len())), (1, 0));
}

#[test]
fn elapsed_time_is_no_progress() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        call.line.starts_with("GET /sessions/status").then(|| {
            let (state, time) = ("init", call.before);
            Reply::json(
                serde_json::json!({"status": "RUNNING", "state": state, "elapsed_time": time}),
            )
        })
    });
    let mut bench = Bench::new(&engine);
    (bench.config.progress_deadline, bench.config.max_sessions) = (Duration::from_millis(200), 1);
    contains(&bench.fails(), &["no progress in session s1"]);
}

#[test]
fn a_session_that_the_engine_does_not_know_is_begun_again() {
    for status in [500, 404, 410, 400] {
        let engine = Engine::with(dev_receipt(), move |call, memory| {
            (call.line == "GET /sessions/status/s1").then(|| {
                memory.sessions.remove("s1");
                Reply::status(status, "internal error")
            })
        });
        let bench = Bench::new(&engine);
        bench.proves();
        assert_eq!(engine.created(), 2, "{status}");
        assert_eq!(engine.memory(|memory| memory.count("GET /sessions/status/s1")), 3, "{status}");
    }
}

#[test]
fn an_engine_that_fails_now_and_then_is_not_said_to_have_forgotten() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        let status = call.line.starts_with("GET /sessions/status");
        (status && call.before % 3 < 2).then(|| Reply::status(500, "internal error"))
    });
    let bench = Bench::new(&engine);
    bench.proves();
    assert_eq!(engine.created(), 1);
}

#[test]
fn an_engine_that_forgets_again_and_again_is_named() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        call.line.starts_with("GET /sessions/status").then(|| Reply::status(500, ""))
    });
    let bench = Bench::new(&engine);
    contains(&bench.fails(), &["no longer knows session s3", "after 3 sessions", "restarts"]);
    assert_eq!(engine.created(), 3);
}

#[test]
fn a_session_that_the_engine_failed_is_begun_again_and_its_words_are_quoted() {
    for status in ["FAILED", "TIMED_OUT", "ABORTED"] {
        let answer = serde_json::json!({"status": status, "error_msg": "worker lost\u{1b}[2J\n"});
        let failed = answer.clone();
        let engine = Engine::with(dev_receipt(), move |call, _| {
            (call.line == "GET /sessions/status/s1").then(|| Reply::json(failed.clone()))
        });
        Bench::new(&engine).proves();
        assert_eq!(engine.created(), 2);

        let engine = Engine::with(dev_receipt(), move |call, _| {
            call.line.starts_with("GET /sessions/status").then(|| Reply::json(answer.clone()))
        });
        let error = Bench::new(&engine).fails();
        contains(&error, &["backend_failed", &format!("session s3 as {status} (worker lost [2J")]);
        assert_eq!(engine.created(), 3);
    }
}

#[test]
fn a_connection_that_ends_without_an_answer_is_no_answer() {
    // While it is asked about the session, and before: each question is asked again.
    let engine = Engine::with(dev_receipt(), |call, _| {
        let first = match call.line.as_str() {
            "POST /sessions/create" => false,
            // Each upload has an id of its own.
            line if line.starts_with("PUT /inputs") => line.ends_with("input-2"),
            _ => call.before == 0,
        };
        first.then_some(Reply::Close)
    });
    let bench = Bench::new(&engine);
    bench.proves();
    assert_eq!(engine.created(), 1);
    assert_eq!(engine.memory(|memory| memory.count("PUT /inputs")), 2);

    // When a session is asked for: it may have been begun, which counts.
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.before == 0 && call.line == "POST /sessions/create").then_some(Reply::Close)
    });
    Bench::new(&engine).proves();
    assert_eq!(engine.memory(|memory| memory.count("POST")), 2);

    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "POST /sessions/create").then_some(Reply::Close)
    });
    let bench = Bench::new(&engine);
    contains(&bench.fails(), &["took this work 3 times and named no session", "a new session"]);
    assert_eq!((engine.memory(|memory| memory.count("POST")), bench.kept()), (3, 0));
}

#[test]
fn an_engine_that_does_not_answer_is_asked_again_and_then_named() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        call.line.starts_with("GET /inputs/upload").then_some(Reply::Hang)
    });
    let mut bench = Bench::new(&engine);
    bench.config.answer_timeout = Duration::from_millis(100);
    contains(&bench.fails(), &["did not answer where an input goes within 100ms"]);
    assert_eq!(engine.memory(|memory| memory.count("GET /inputs")), 3);
}

#[test]
fn an_input_that_is_too_large_for_the_engine_is_said_to_be() {
    for (status, uploads, words) in [
        (413, 1, "refuses the input, 12 bytes as too large (HTTP 413): prove fewer blocks"),
        // r0vm's answer to more than 250 MiB.
        (500, 3, "failed at the input, 12 bytes (HTTP 500: internal error)"),
    ] {
        let engine = Engine::with(dev_receipt(), move |call, _| {
            call.line.starts_with("PUT /inputs").then(|| Reply::status(status, "internal error"))
        });
        let bench = Bench::new(&engine);
        contains(&bench.fails(), &["backend_unavailable", words]);
        assert_eq!(engine.memory(|memory| memory.count("PUT /inputs")), uploads);
        assert_eq!((engine.created(), bench.kept()), (0, 0));
    }
}

#[test]
fn a_rest_api_that_goes_and_comes_back_costs_no_session() {
    let mut engine = Engine::with(dev_receipt(), |call, memory| {
        let asked = memory.sessions.get("s1").copied().unwrap_or_default();
        (call.line == "GET /sessions/status/s1" && asked == 0 && call.before < 5)
            .then(|| Reply::running("init"))
    });
    let bench = Bench::new(&engine);
    // Gone for longer than the deadline: what it does meanwhile cannot be seen.
    let mut config = bench.config.clone();
    config.progress_deadline = Duration::from_millis(700);
    let bench = Bench { config, ..bench };
    thread::scope(|scope| {
        let proving = scope.spawn(|| bench.proves());
        while engine.memory(|memory| memory.count("GET /sessions/status")) < 2 {
            thread::sleep(Duration::from_millis(5));
        }
        engine.go();
        thread::sleep(Duration::from_millis(1200));
        engine.come_back();
        proving.join().expect("it is proven");
    });
    assert_eq!((engine.created(), engine.memory(|memory| memory.stopped.len())), (1, 0));
}

#[test]
fn an_engine_that_stays_away_is_named_and_its_session_is_kept() {
    let mut engine = Engine::with(dev_receipt(), |call, memory| {
        (call.line == "GET /sessions/status/s1" && memory.sessions["s1"] == 0 && call.before < 3)
            .then(|| Reply::running("init"))
    });
    let mut bench = Bench::new(&engine);
    bench.config.patience = Duration::from_millis(300);
    let error = thread::scope(|scope| {
        let proving = scope.spawn(|| bench.fails());
        while engine.memory(|memory| memory.count("GET /sessions/status")) < 1 {
            thread::sleep(Duration::from_millis(5));
        }
        engine.go();
        proving.join().expect("it ends")
    });
    contains(&error, &["backend_unavailable", "cannot be reached", "start it"]);
    assert_eq!(bench.kept(), 1);
    engine.come_back();
    bench.proves();
    assert_eq!(engine.created(), 1, "it went on with the session");
}

#[test]
fn an_engine_without_time_is_left_alone_for_as_long_as_it_wants() {
    for status in [429, 503] {
        let engine = Engine::with(dev_receipt(), move |call, _| {
            let busy = Reply::Http(status, vec![("retry-after", "0.4".to_owned())], Vec::new());
            let beginning = call.line == "POST /sessions/create"
                || call.line == "GET /sessions/status/s1"
                || call.line == "GET /receipts/stark/receipt/s1";
            (call.before == 0 && beginning).then_some(busy)
        });
        let bench = Bench::new(&engine);
        let begun = Instant::now();
        bench.proves();
        assert!(begun.elapsed() > Duration::from_millis(1200), "{status}: {:?}", begun.elapsed());
        assert_eq!(engine.created(), 1, "{status}");
    }
}

#[test]
fn an_engine_that_never_has_time_is_named_and_nothing_counts_as_begun() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "POST /sessions/create").then(|| Reply::status(503, ""))
    });
    let mut bench = Bench::new(&engine);
    bench.config.patience = Duration::from_millis(200);
    contains(&bench.fails(), &["has no time (HTTP 503)", "more workers"]);
    assert_eq!(bench.kept(), 0);
}

#[test]
fn a_receipt_that_is_written_late_is_waited_for() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "GET /receipts/stark/receipt/s1" && call.before < 2)
            .then(|| Reply::status(404, "receipt does not exist"))
    });
    Bench::new(&engine).proves();
    assert_eq!(engine.created(), 1);
}

#[test]
fn a_receipt_that_is_lost_costs_one_session() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        (call.line == "GET /receipts/stark/receipt/s1").then(|| Reply::status(404, ""))
    });
    Bench::new(&engine).proves();
    assert_eq!(engine.created(), 2);
}

#[test]
fn a_job_that_is_no_longer_wanted_is_stopped_and_forgotten() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        call.line.starts_with("GET /sessions/status").then(|| Reply::running("init"))
    });
    let bench = Bench::new(&engine);
    let cancel = Cancel::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let progress = {
        let (cancel, asked) = (cancel.clone(), asked.clone());
        move |_| {
            if asked.fetch_add(1, Ordering::Relaxed) == 4 {
                cancel.set();
            }
        }
    };
    let error = bench.prover().prove(INPUT, ProofKind::Succinct, &cancel, &progress).unwrap_err();
    assert!(matches!(error, ProveError::Cancelled), "{error}");
    assert_eq!(engine.memory(|memory| memory.stopped.clone()), ["s1"]);
    assert_eq!(bench.kept(), 0);
}

#[test]
fn an_answer_that_hangs_does_not_keep_a_cancelled_job_alive() {
    let engine = Engine::with(dev_receipt(), |call, _| {
        call.line.starts_with("GET /sessions/status").then_some(Reply::Hang)
    });
    let bench = Bench::new(&engine);
    let cancel = Cancel::new();
    let begun = Instant::now();
    thread::scope(|scope| {
        let prover = bench.prover();
        let proving = scope.spawn({
            let cancel = cancel.clone();
            move || prover.prove(INPUT, ProofKind::Succinct, &cancel, &|_| {})
        });
        while engine.memory(|memory| memory.count("GET /sessions/status")) == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        cancel.set();
        assert!(matches!(proving.join().unwrap(), Err(ProveError::Cancelled)));
    });
    assert!(begun.elapsed() < bench.config.answer_timeout);
    assert_eq!(engine.memory(|memory| memory.stopped.clone()), ["s1"]);
}
