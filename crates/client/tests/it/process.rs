//! A prover in a process of its own: this test program, started again, which does there what its environment says.

use alloy_primitives::B256;
use client::process::{Setup, serve};
use client::{
    Cancel, Execution, FailureClass, Progress, ProofKind, ProofSystem, ProveError, Prover,
    ProverProcess,
};
use std::{
    env, fs,
    io::{self, Write},
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

    fn danger(&self) -> Option<&'static str> {
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

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        if input.is_empty() && env::var(DEED).as_deref() != Ok("be broken") {
            return Err(ProveError::BadInput("empty".into()));
        }
        Ok(Execution { public_values: input.to_vec(), cycles: None })
    }
}

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    if env::var_os(DEED).is_some() {
        serve(|| Ok(Arc::new(Actor))).unwrap();
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
    assert_eq!(run, Execution { public_values: b"in".to_vec(), cycles: None });
    prover.self_test().unwrap();
    let left: Vec<_> = fs::read_dir(folder.path().join("scratch")).unwrap().collect();
    assert!(left.is_empty(), "temporary files of a child go before the next one: {left:?}");
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
