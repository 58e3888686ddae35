//! A prover in a process of its own: this test program, started again, which does there what its environment says.

use alloy_primitives::B256;
use client::process::{ExecutableError, Identity, PROTOCOL, Setup, VERSION, Wanted, serve};
use client::prover::{PartFiles, PartWork};
use client::{
    Cancel, Cycles, Execution, FailureClass, Measurement, PhaseCycles, Progress, ProofKind,
    ProofSystem, ProveError, Prover, ProverProcess,
};
use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Names what the child shall do.
const DEED: &str = "TEST_DEED";

/// Says that an input is its own proof, unless it is told to do something else.
struct Actor;

impl Prover for Actor {
    fn system(&self) -> ProofSystem {
        ProofSystem::Exec
    }

    fn program_id(&self) -> B256 {
        B256::repeat_byte(7)
    }

    fn danger(&self) -> Option<&str> {
        Some("a test")
    }

    fn prove(
        &self,
        input: &[u8],
        _: ProofKind,
        _: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        progress(Progress::Segment { done: 1, total: 2 });
        io::stdout().write_all(b"libraries print where they should not\n").unwrap();
        let signal = |name: &str| {
            let me = std::process::id().to_string();
            assert!(Command::new("kill").args([name, me.as_str()]).status().unwrap().success());
            thread::sleep(Duration::from_secs(600));
        };
        match env::var(DEED).unwrap_or_default().as_str() {
            "refuse" => return Err(ProveError::BadInput("it is odd".into())),
            "panic" => panic!("the GPU is on fire"),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(7),
            "starve" => drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 62))),
            "be killed" => signal("-KILL"),
            "be stopped" => signal("-STOP"),
            "hang" => {
                fs::write(env::temp_dir().join("pid"), std::process::id().to_string()).unwrap();
                thread::sleep(Duration::from_secs(600));
            }
            "crawl" => loop {
                progress(Progress::Compressing);
                thread::sleep(Duration::from_millis(20));
            },
            _ => {}
        }
        fs::write(env::temp_dir().join("left-over"), "segments").unwrap();
        Ok(input.to_vec())
    }

    fn kinds(&self) -> Vec<ProofKind> {
        vec![ProofKind::Part, ProofKind::Succinct]
    }

    fn segment_po2(&self) -> Option<u32> {
        Some(19)
    }

    /// The proof of a part says what it is made of.
    fn prove_part(
        &self,
        input: &Path,
        part: &PartFiles,
        _: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        progress(Progress::Joining { done: 1, total: 2 });
        let mut files = vec![&part.plan];
        files.extend(&part.proofs);
        let files: Vec<String> =
            files.into_iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let input = fs::read_to_string(input).unwrap();
        fs::write(env::temp_dir().join("left-over"), "segments").unwrap();
        if part.segment_po2 > 19 {
            return Err(ProveError::Unavailable("too large".into()));
        }
        Ok(format!("{} of {input}: {}", part.work, files.join(", ")).into_bytes())
    }

    fn plan(&self, input: &Path, segment_po2: u32) -> Result<Vec<u8>, ProveError> {
        let input = fs::read_to_string(input).unwrap();
        Ok(format!("plan of {input} in segments of 2^{segment_po2}").into_bytes())
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        if input.is_empty() && env::var(DEED).as_deref() != Ok("be broken") {
            return Err(ProveError::BadInput("empty".into()));
        }
        let cycles = Cycles { user: 1, total: 2, segments: 3, keccak_permutations: None };
        Ok(Execution { public_values: input.to_vec(), cycles: Some(cycles) })
    }

    fn measure(
        &self,
        input: &[u8],
        program: Option<&Path>,
        profile: Option<&Path>,
    ) -> Result<Measurement, ProveError> {
        assert_eq!(profile, None);
        let program = program.map(|path| path.display().to_string()).unwrap_or_default();
        let phases = vec![(program, PhaseCycles { user: 4, paging: 5 })];
        let software_calls = [(9, 1)].into();
        let public_values = input.to_vec();
        Ok(Measurement { public_values, phases, software_calls, ..Measurement::default() })
    }
}

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    if env::var_os(DEED).is_some() {
        serve("actor", || Ok(Arc::new(Actor))).unwrap();
    }
}

#[test]
#[ignore = "a client that is killed by a test"]
fn parent() {
    if let Some(folder) = env::var_os("TEST_FOLDER") {
        let _killed = prover(folder.as_ref(), "hang").prove(
            b"in",
            ProofKind::Succinct,
            &Cancel::new(),
            &|_| {},
        );
    }
}

fn again(test: &str) -> Vec<std::ffi::OsString> {
    ["-q", "--exact", "--ignored", "--nocapture", test].map(Into::into).to_vec()
}

fn prover(folder: &Path, deed: &str) -> ProverProcess {
    ProverProcess::new(setup(folder, deed), &Actor)
}

fn setup(folder: &Path, deed: &str) -> Setup {
    Setup {
        program: env::current_exe().unwrap(),
        arguments: again("process::child"),
        environment: vec![(DEED.into(), deed.into())],
        folder: folder.join("scratch"),
        stall: Duration::from_secs(60),
        limit: Duration::from_secs(60),
    }
}

fn prove(prover: &ProverProcess, cancel: &Cancel) -> Result<Vec<u8>, ProveError> {
    prover.prove(b"in", ProofKind::Succinct, cancel, &|_| {})
}

#[test]
fn proof_progress_and_facts_come_through() {
    let folder = tempfile::tempdir().unwrap();
    let prover = prover(folder.path(), "prove");
    assert_eq!(
        (prover.system(), prover.program_id(), prover.danger()),
        (ProofSystem::Exec, B256::repeat_byte(7), Some("a test"))
    );
    let steps = Mutex::new(Vec::new());
    for _ in 0..2 {
        let proof = prover.prove(b"in", ProofKind::Succinct, &Cancel::new(), &|step| {
            steps.lock().unwrap().push(step);
        });
        assert_eq!(proof.unwrap(), b"in");
    }
    let step = Progress::Segment { done: 1, total: 2 };
    assert_eq!(*steps.lock().unwrap(), [step, step]);
    let run = prover.execute(b"in").unwrap();
    let cycles = Cycles { user: 1, total: 2, segments: 3, keccak_permutations: None };
    assert_eq!(run, Execution { public_values: b"in".to_vec(), cycles: Some(cycles) });
    assert!(prover.peak_memory() > Some(1 << 20), "it says how much memory it took");
    let measured = prover.measure(b"in", Some(Path::new("/program")), None).unwrap();
    let phases = vec![("/program".to_owned(), PhaseCycles { user: 4, paging: 5 })];
    let (public_values, software_calls) = (b"in".to_vec(), [(9, 1)].into());
    let wanted = Measurement { public_values, phases, software_calls, ..Measurement::default() };
    assert_eq!(measured, wanted);
    prover.self_test().unwrap();
    let left: Vec<_> = fs::read_dir(folder.path().join("scratch")).unwrap().collect();
    assert!(left.is_empty(), "temporary files of a child go before the next one: {left:?}");
}

#[test]
fn plans_and_parts_come_through() {
    let folder = tempfile::tempdir().unwrap();
    let prover = prover(folder.path(), "prove");
    assert_eq!(prover.segment_po2(), Some(19));
    assert_eq!(prover.kinds(), [ProofKind::Part, ProofKind::Succinct]);
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let input = file("input", "in");
    let planned = prover.plan(&input, 16).unwrap();
    assert_eq!(planned, b"plan of in in segments of 2^16");
    let mut part = PartFiles {
        work: PartWork::Join { first: 1, end: 3 },
        segment_po2: 16,
        plan: file("plan", "a plan"),
        proofs: vec![file("one", "one proof"), file("two", "another")],
    };
    let steps = Mutex::new(Vec::new());
    let progress = |step| steps.lock().unwrap().push(step);
    let proof = prover.prove_part(&input, &part, &Cancel::new(), &progress).unwrap();
    assert_eq!(String::from_utf8(proof).unwrap(), "join 1..3 of in: a plan, one proof, another");
    assert_eq!(*steps.lock().unwrap(), [Progress::Joining { done: 1, total: 2 }]);
    part.segment_po2 = 20;
    let refused = prover.prove_part(&input, &part, &Cancel::new(), &progress).unwrap_err();
    assert_eq!(refused.class(), FailureClass::BackendUnavailable);
    let left: Vec<_> = fs::read_dir(folder.path().join("scratch")).unwrap().collect();
    assert!(left.is_empty(), "what a part leaves behind goes: {left:?}");
    let cancel = Cancel::new();
    cancel.set();
    let cancelled = prover.prove_part(&input, &part, &cancel, &progress);
    assert!(matches!(cancelled, Err(ProveError::Cancelled | ProveError::Unavailable(_))));

    // An executable of before says nothing of segments.
    let identity = r#"{"system":"exec","program_id":"0x0000000000000000000000000000000000000000000000000000000000000000","kinds":["succinct"]}"#;
    let identity: Identity = serde_json::from_str(identity).unwrap();
    assert_eq!(identity.segment_po2, None);
}

#[test]
fn the_parent_outlives_its_child_and_knows_what_ended_it() {
    use FailureClass::{BackendFailed, BackendUnavailable, GuestPanic, OutOfMemory, Timeout};
    let folder = tempfile::tempdir().unwrap();
    for (deed, class, words) in [
        ("refuse", GuestPanic, "it is odd"),
        ("panic", BackendFailed, "the GPU is on fire"),
        ("abort", BackendFailed, "SIGABRT"),
        ("exit", BackendUnavailable, "exit status: 7"),
        ("starve", OutOfMemory, "memory allocation of"),
        ("be killed", OutOfMemory, "SIGKILL"),
        ("be stopped", Timeout, "no progress for 1s"),
        ("hang", Timeout, "no progress for 1s"),
        ("crawl", Timeout, "not finished after 3s"),
    ] {
        let mut setup = setup(folder.path(), deed);
        if class == Timeout {
            (setup.stall, setup.limit) = (Duration::from_secs(1), Duration::from_secs(3));
        }
        let prover = ProverProcess::new(setup, &Actor);
        let error = prove(&prover, &Cancel::new()).unwrap_err();
        assert_eq!(error.class(), class, "{deed}: {error}");
        assert!(error.to_string().contains(words), "{deed}: {error}");
    }
    let missing = Setup { program: "/nowhere/prover".into(), ..setup(folder.path(), "prove") };
    let error = prove(&ProverProcess::new(missing, &Actor), &Cancel::new()).unwrap_err();
    assert_eq!(error.class(), BackendUnavailable);
    assert!(error.to_string().contains("/nowhere/prover"), "{error}");
    assert!(prover(folder.path(), "be broken").self_test().is_err());
}

const WANTED: Wanted =
    Wanted { system: ProofSystem::Exec, program_id: B256::repeat_byte(7), mocked: true };

#[test]
fn an_executable_says_who_it_is_and_must_be_what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let prover = ProverProcess::identify(setup(folder.path(), "prove"), &WANTED).unwrap();
    assert_eq!(Identity::of(&prover), Identity::of(&Actor));
    assert_eq!(prove(&prover, &Cancel::new()).unwrap(), b"in");
    for wanted in [
        Wanted { system: ProofSystem::Risc0, ..WANTED },
        Wanted { program_id: B256::ZERO, ..WANTED },
        Wanted { mocked: false, ..WANTED },
    ] {
        let error = ProverProcess::identify(setup(folder.path(), "prove"), &wanted).unwrap_err();
        let error = executable(&error);
        assert!(matches!(error, ExecutableError::Offer { .. }), "{error}");
    }
}

/// The cause, which is typed.
fn executable(error: &ProveError) -> &ExecutableError {
    match error {
        ProveError::Unavailable(cause) => cause.downcast_ref().expect("it is typed"),
        other => panic!("{other}"),
    }
}

/// An executable that says these lines, does what follows, and never does as it is told.
fn fake(folder: &Path, lines: &[&str], then: &str) -> Setup {
    let said = lines.iter().map(|line| format!("printf '%s\\n' '{line}'\n")).collect::<String>();
    let program = folder.join("fake");
    fs::write(&program, format!("#!/bin/sh\n{said}{then}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (stall, limit) = (Duration::from_secs(1), Duration::from_secs(5));
    Setup { program, arguments: Vec::new(), stall, limit, ..setup(folder, "") }
}

fn hello(protocol: u32, version: &str) -> String {
    format!(
        r#"{{"hello":{{"protocol":{protocol},"name":"l2-prover-fake","version":"{version}"}}}}"#
    )
}

#[test]
fn an_executable_of_another_version_gets_no_work() {
    let folder = tempfile::tempdir().unwrap();
    let worked = format!("read line; echo \"$line\" > {}/worked", folder.path().display());
    let setup = fake(folder.path(), &[&hello(PROTOCOL, "9.8.7")], &worked);
    for error in [
        ProverProcess::identify(setup.clone(), &WANTED).unwrap_err(),
        // It was replaced after it had been identified.
        prove(&ProverProcess::new(setup, &Actor), &Cancel::new()).unwrap_err(),
    ] {
        assert_eq!(error.class(), FailureClass::BackendUnavailable);
        let error = executable(&error);
        assert!(matches!(error, ExecutableError::Version { .. }), "{error}");
        let text = error.to_string();
        for word in ["l2-prover-fake 9.8.7", VERSION, "same release"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    let setup = fake(folder.path(), &[&hello(PROTOCOL + 1, VERSION)], &worked);
    let error = ProverProcess::identify(setup, &WANTED).unwrap_err();
    let error = executable(&error);
    assert!(matches!(error, ExecutableError::Protocol { protocol: 2, .. }), "{error}");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(fs::read_to_string(folder.path().join("worked")).unwrap_or_default().trim(), "");
}

#[test]
fn an_executable_that_says_the_wrong_things_is_found_out() {
    use FailureClass::{BackendFailed, BackendUnavailable, Timeout};
    let folder = tempfile::tempdir().unwrap();
    let hello = hello(PROTOCOL, VERSION);
    let hello = hello.as_str();
    let done = r#"{"done":{"result":"healthy"}}"#;
    let wrong = r#"{"done":{"result":{"proof":{"sha256":"0000000000000000000000000000000000000000000000000000000000000000","len":2}}}}"#;
    for (name, lines, then, class, words) in [
        ("says nothing", vec![], "exec sleep 600", Timeout, "did not say within 1s"),
        ("is no prover", vec!["usage: true"], "exit 2", BackendUnavailable, "exit status: 2"),
        (
            "has a result before it is asked",
            vec![done],
            "exit 0",
            BackendUnavailable,
            "without a result",
        ),
        (
            "knows only rubbish",
            vec!["{", "{\"hello\":7}", "\u{1}"],
            "exec sleep 600",
            Timeout,
            "did not say",
        ),
        ("prints without end", vec![], "exec cat /dev/zero", Timeout, "did not say"),
        ("ignores its assignment", vec![hello], "exec sleep 600", Timeout, "no progress for 1s"),
        ("ends after its hello", vec![hello], "exit 0", BackendUnavailable, "without a result"),
        ("answers something else", vec![hello, done], "exit 0", BackendFailed, "nobody asked"),
        ("has written no proof", vec![hello, wrong], "exit 0", BackendUnavailable, "No such file"),
        (
            "lies about its proof",
            vec![hello, wrong],
            "printf no > $TMPDIR/proof",
            BackendFailed,
            "other bytes",
        ),
    ] {
        // It listens to its assignment before it speaks again.
        let listens = match lines.as_slice() {
            [first, rest @ ..] if *first == hello => {
                let then = rest
                    .iter()
                    .map(|line| format!("printf '%s\\n' '{line}'\n"))
                    .collect::<String>()
                    + then;
                fake(folder.path(), &[*first], &format!("read line\n{then}"))
            }
            lines => fake(folder.path(), lines, then),
        };
        let error = prove(&ProverProcess::new(listens, &Actor), &Cancel::new()).unwrap_err();
        assert_eq!(error.class(), class, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn an_upgrade_does_not_change_the_prover_of_a_client_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("prover");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let setup = Setup { program: program.clone(), ..setup(folder.path(), "prove") };
    let prover = ProverProcess::identify(setup, &WANTED).unwrap();
    // As a package manager does it.
    fs::write(folder.path().join("new"), "another version").unwrap();
    fs::rename(folder.path().join("new"), &program).unwrap();
    assert_eq!(prove(&prover, &Cancel::new()).unwrap(), b"in");
}

#[test]
fn cancelling_kills_the_child() {
    let folder = tempfile::tempdir().unwrap();
    let prover = prover(folder.path(), "hang");
    let cancel = Cancel::new();
    let error = thread::scope(|scope| {
        let proving = scope.spawn(|| prove(&prover, &cancel));
        let child = pid(folder.path());
        cancel.set();
        let error = proving.join().unwrap().unwrap_err();
        assert!(!lives(&child), "it was waited for");
        error
    });
    assert_eq!(error.class(), FailureClass::Cancelled);
}

#[test]
fn the_child_dies_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(again("process::parent"))
        .env("TEST_FOLDER", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = pid(folder.path());
    assert!(lives(&child));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until(|| (!lives(&child)).then_some(()));
}

/// The number of a child that hangs.
fn pid(folder: &Path) -> String {
    until(|| fs::read_to_string(folder.join("scratch/pid")).ok().filter(|pid| !pid.is_empty()))
}

/// A zombie, whose new parent has yet to notice, is dead.
fn lives(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6_000 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came true");
}

/// An executable that reads its assignment, does `then` with the proof's path in `$proof`, and may use `$done`, the message that
/// it has written a proof of the two bytes `in`.
fn hostile(folder: &Path, then: &str) -> ProverProcess {
    let proof =
        r#"{"sha256":"582967534d0f909d196b97f9e6921342777aea87b46fa52df165389db1fb8ccf","len":2}"#;
    assert_eq!(proof, serde_json::to_string(&protocol::ArtifactRef::of(b"in")).unwrap());
    let then = format!(
        r#"
read line
proof=$(printf '%s' "$line" | sed 's/.*"proof":"\([^"]*\)".*/\1/')
done='{{"done":{{"result":{{"proof":{proof}}}}}}}'
step='{{"progress":{{"phase":"compressing"}}}}'
{then}"#
    );
    let setup = fake(folder, &[&hello(PROTOCOL, VERSION)], &then);
    ProverProcess::new(setup, &Actor)
}

#[test]
fn an_executable_that_goes_on_talking_or_leaves_something_behind_costs_seconds() {
    let talks = "while :; do echo \"$step\"; sleep 0.2; done";
    for then in [
        // It says that it is done, and then is not silent.
        format!("printf in > \"$proof\"; echo \"$done\"; {talks}"),
        // It ends, and what it started goes on.
        format!("printf in > \"$proof\"; echo \"$done\"; ({talks}) & exit 0"),
        format!("({talks}) & exit 3"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let prover = hostile(folder.path(), &then);
        let begun = std::time::Instant::now();
        let proof = prove(&prover, &Cancel::new());
        // The limit of `fake` is 5 s; twice the time for a farewell, and patience for a busy machine.
        assert!(begun.elapsed() < Duration::from_secs(30), "{then}: {:?}", begun.elapsed());
        match proof {
            Ok(proof) => assert_eq!(proof, b"in"),
            Err(error) => assert!(error.to_string().contains("without a result"), "{error}"),
        }
    }
}

#[test]
fn what_an_executable_starts_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let then = format!(
        "sleep 600 > /dev/null 2>&1 & echo $! > {}; printf in > \"$proof\"; echo \"$done\"",
        pid.display()
    );
    assert_eq!(prove(&hostile(folder.path(), &then), &Cancel::new()).unwrap(), b"in");
    let pid = fs::read_to_string(pid).unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // What was killed is there until somebody has asked how it ended.
    for _ in 0..500 {
        if state().is_empty() || state().contains(") Z ") {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it lives on: {}", state());
}

#[test]
fn only_a_regular_file_of_the_reported_length_is_a_proof() {
    for (then, wrong) in [
        ("ln -s /dev/zero \"$proof\"", "a link"),
        ("mkfifo \"$proof\"", "no file"),
        ("mkdir \"$proof\"", "no file"),
        ("truncate -s 3G \"$proof\"", "of another length"),
        ("printf i > \"$proof\"", "of another length"),
        ("printf on > \"$proof\"", "other bytes"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let prover = hostile(folder.path(), &format!("{then}; echo \"$done\""));
        let error = prove(&prover, &Cancel::new()).unwrap_err();
        assert_eq!(error.class(), FailureClass::BackendFailed, "{then}");
        assert!(error.to_string().contains(wrong), "{then}: {error}");
    }
}

#[test]
fn what_an_executable_says_does_not_reach_the_terminal_as_commands() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(100_000);
    let then = format!(
        r#"printf '%s\n' '{{"failed":{{"class":"backend_failed","detail":"\u001b]0;title\u0007{long}"}}}}'"#
    );
    let error = prove(&hostile(folder.path(), &then), &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains("title") && !error.contains('\u{1b}') && error.len() < 2_000, "{error}");
}
