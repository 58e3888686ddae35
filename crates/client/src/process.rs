//! Proving in a process of its own, so that nothing a zkVM does can take the client with it.
//!
//! * The parent writes one assignment to the child's stdin; the child answers on its stdout, one JSON message a line.
//!   Input and proof are files.
//! * Whatever ends the child, the parent knows which it was: a proof, a failure it reported, a crash, the kernel out of
//!   memory, a hang.
//! * The child ends with its parent, and never outlives the call that started it.
//! * Signals meant for the client (ctrl-c, a service manager's SIGTERM) do not reach the child: its parent decides.

use crate::prover::{
    BoxError, Cancel, Execution, FailureClass, Progress, ProofKind, ProofSystem, ProveError, Prover,
};
use alloy_primitives::B256;
use protocol::ArtifactRef;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// The finished proof, in [`Setup::folder`]: there whole and durable, or not at all.
pub const PROOF: &str = "proof";

/// How often a waiting parent looks whether it should stop the child.
const TICK: Duration = Duration::from_millis(50);

/// How long a child may live on after its last message.
const FAREWELL: Duration = Duration::from_secs(5);

/// A self-test runs the program for an instant; one that takes so long hangs.
const SELF_TEST: Duration = Duration::from_secs(300);

/// How much of the end of the child's stderr is searched for a reason, in bytes. There may be a backtrace after it.
const LAST_WORDS: usize = 32 * 1024;

/// How much of it goes into a report, in characters.
const REPORTED: usize = 1_000;

/// What Rust's allocator, C++'s and CUDA say when there is no memory, in lower case.
const STARVED: [&str; 3] = ["memory allocation of", "bad_alloc", "out of memory"];

/// How to start the child, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The program to run; it must call [`serve`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables to set in its environment, which is otherwise ours.
    pub environment: Vec<(OsString, OsString)>,
    /// Folder of its temporary files and of the proof. Emptied before each start.
    pub folder: PathBuf,
    /// It is hung if it reports no progress for so long.
    pub stall: Duration,
    /// It is hung if it takes longer than this.
    pub limit: Duration,
}

/// A [`Prover`] that proves in a child process.
#[derive(Clone, Debug)]
pub struct ProverProcess {
    setup: Setup,
    system: ProofSystem,
    program_id: B256,
    danger: Option<&'static str>,
}

/// What the child shall do. One line on its stdin.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Assignment {
    /// The parent: if it is another one by now, it died before the child could ask to die with it.
    parent: u32,
    work: Work,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    Prove { input: PathBuf, kind: ProofKind, proof: PathBuf },
    Execute { input: PathBuf, public_values: PathBuf },
    SelfTest,
}

/// What the child says. One line each on its stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Progress(Progress),
    /// The file asked for is written and has these bytes; for a self-test nothing.
    Done(Option<ArtifactRef>),
    Failed {
        class: FailureClass,
        detail: String,
    },
}

impl ProverProcess {
    /// Proves in a child started by `setup`, which must offer the same prover as `like`.
    pub fn new(setup: Setup, like: &dyn Prover) -> Self {
        let (system, program_id, danger) = (like.system(), like.program_id(), like.danger());
        Self { setup, system, program_id, danger }
    }

    /// Runs a child to its end. Blocks, on a thread that must live as long as the child: the kernel kills a child when the
    /// thread that started it ends.
    fn run(
        &self,
        work: Work,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Option<ArtifactRef>, ProveError> {
        let setup = &self.setup;
        let mut child = Command::new(&setup.program)
            .args(&setup.arguments)
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .env("TMPDIR", &setup.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map(Running)
            .map_err(|error| {
                let text = format!("cannot start {}: {error}", setup.program.display());
                ProveError::Unavailable(text.into())
            })?;
        let mut assignment = serde_json::to_vec(&Assignment { parent: std::process::id(), work })
            .map_err(|error| ProveError::Unavailable(error.into()))?;
        assignment.push(b'\n');
        // A child that does not listen has ended or hangs; which, the loop below finds out. The line fits into a pipe.
        let _heard = child.0.stdin.take().map(|mut stdin| stdin.write_all(&assignment));
        let messages = child.messages().map_err(|error| ProveError::Unavailable(error.into()))?;
        let last_words =
            child.last_words().map_err(|error| ProveError::Unavailable(error.into()))?;

        let started = Instant::now();
        let (mut moved, mut result) = (started, None);
        let status = loop {
            match messages.recv_timeout(TICK) {
                Ok(Message::Progress(step)) => {
                    moved = Instant::now();
                    progress(step);
                }
                Ok(Message::Done(artifact)) => {
                    moved = Instant::now();
                    result = Some(Ok(artifact));
                }
                Ok(Message::Failed { class, detail }) => {
                    moved = Instant::now();
                    result = Some(Err(ProveError::of(class, detail)));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It has closed its stdout: it is at its end, or hangs there.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK / 10),
            }
            if let Some(status) = child.0.try_wait().map_err(ProveError::unavailable)? {
                break status;
            }
            if result.is_some() {
                if moved.elapsed() > FAREWELL {
                    break child.kill().map_err(ProveError::unavailable)?;
                }
                continue;
            }
            let hung = if cancel.is_set() {
                ProveError::Cancelled
            } else if moved.elapsed() > setup.stall {
                ProveError::TimedOut(format!("no progress for {:?}", setup.stall))
            } else if started.elapsed() > setup.limit {
                ProveError::TimedOut(format!("not finished after {:?}", setup.limit))
            } else {
                continue;
            };
            child.kill().map_err(ProveError::unavailable)?;
            return Err(hung);
        };
        // What it said last may still be in the pipe.
        while let Ok(message) = messages.recv_timeout(FAREWELL) {
            match message {
                Message::Progress(_) => {}
                Message::Done(artifact) => result = Some(Ok(artifact)),
                Message::Failed { class, detail } => {
                    result = Some(Err(ProveError::of(class, detail)));
                }
            }
        }
        // However it ended after that: what it has reported counts.
        result.unwrap_or_else(|| Err(ended(status, &last_words.text())))
    }

    /// Empties the folder, and names a file in it.
    fn file(&self, name: &str) -> Result<PathBuf, ProveError> {
        empty(&self.setup.folder).map_err(ProveError::unavailable)?;
        Ok(self.setup.folder.join(name))
    }

    /// Reads what the child has written.
    fn read(path: &Path, wanted: Option<ArtifactRef>) -> Result<Vec<u8>, ProveError> {
        let bytes = fs::read(path).map_err(ProveError::unavailable)?;
        if wanted == Some(ArtifactRef::of(&bytes)) {
            return Ok(bytes);
        }
        Err(ProveError::Failed("the proving process wrote other bytes than it says".into()))
    }
}

impl Prover for ProverProcess {
    fn system(&self) -> ProofSystem {
        self.system
    }

    fn program_id(&self) -> B256 {
        self.program_id
    }

    fn danger(&self) -> Option<&'static str> {
        self.danger
    }

    fn prove(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        let file = kept(input).map_err(ProveError::unavailable)?;
        self.prove_file(file.path(), kind, cancel, progress)
    }

    fn prove_file(
        &self,
        input: &Path,
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        let proof = self.file(PROOF)?;
        let work = Work::Prove { input: input.into(), kind, proof: proof.clone() };
        let done = self.run(work, cancel, progress).inspect_err(|_| {
            // What a killed child leaves behind can be large.
            let _later = empty(&self.setup.folder);
        })?;
        Self::read(&proof, done)
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        let file = kept(input).map_err(ProveError::unavailable)?;
        let public_values = self.file("public-values")?;
        let work =
            Work::Execute { input: file.path().into(), public_values: public_values.clone() };
        let done = self.run(work, &Cancel::new(), &|_| {})?;
        Ok(Execution { public_values: Self::read(&public_values, done)?, cycles: None })
    }

    fn self_test(&self) -> Result<(), ProveError> {
        self.file(PROOF)?;
        let stall = self.setup.stall.min(SELF_TEST);
        let hasty = Self { setup: Setup { stall, ..self.setup.clone() }, ..self.clone() };
        hasty.run(Work::SelfTest, &Cancel::new(), &|_| {}).map(drop)
    }
}

/// The child's side: reads its assignment from stdin, proves with the prover that `build` makes, and reports on stdout. To
/// be called early, by a process that prints nothing else on stdout. Blocks.
///
/// # Errors
/// If the parent cannot be understood or is gone. Failures of the prover are reported to the parent, not returned.
pub fn serve(build: impl FnOnce() -> Result<Arc<dyn Prover>, BoxError>) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(io::stdin()).read_line(&mut line)?;
    let assignment: Assignment = serde_json::from_str(&line)?;
    // ORDER: ask to die with the parent, then look whether it was there to hear it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if Pid::as_raw(rustix::process::getppid()).cast_unsigned() != assignment.parent {
        return Err(io::Error::other("the process that asked for a proof is gone"));
    }
    // The client's heartbeats come first, and if memory runs out the kernel shall choose this process. Both are wishes.
    let _nicer = rustix::process::nice(5);
    let _first_to_go = fs::write("/proc/self/oom_score_adj", "500");

    let last = match build().map_err(ProveError::Unavailable).and_then(|prover| {
        let work = std::panic::AssertUnwindSafe(|| perform(&*prover, &assignment.work));
        std::panic::catch_unwind(work).unwrap_or_else(|panic| {
            Err(ProveError::Failed(crate::exec::panic_text(&*panic).into()))
        })
    }) {
        Ok(done) => Message::Done(done),
        Err(error) => Message::Failed { class: error.class(), detail: error.detail() },
    };
    say(&last)
}

fn perform(prover: &dyn Prover, work: &Work) -> Result<Option<ArtifactRef>, ProveError> {
    let (path, bytes) = match work {
        Work::Prove { input, kind, proof } => {
            // A parent that does not listen any more is about to end us.
            let progress = |step| drop(say(&Message::Progress(step)));
            (proof, prover.prove_file(input, *kind, &Cancel::new(), &progress)?)
        }
        Work::Execute { input, public_values } => {
            let input = fs::read(input).map_err(ProveError::unavailable)?;
            (public_values, prover.execute(&input)?.public_values)
        }
        Work::SelfTest => return prover.self_test().map(|()| None),
    };
    crate::journal::write(path, &bytes).map_err(|error| ProveError::Unavailable(error.into()))?;
    Ok(Some(ArtifactRef::of(&bytes)))
}

fn say(message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// A child that is killed, with all it has started, when this is dropped.
struct Running(Child);

impl Running {
    fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(status);
        }
        // ORDER: only a child that has not been waited for still owns its number.
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _gone = rustix::process::kill_process_group(group, Signal::KILL);
        }
        self.0.wait()
    }

    /// Its messages. The channel is closed when it closes its stdout.
    fn messages(&mut self) -> io::Result<mpsc::Receiver<Message>> {
        // A child says a few hundred things in an hour; if it says more than we take, it waits.
        let (tell, messages) = mpsc::sync_channel(64);
        let stdout = self.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        thread::Builder::new().name("prover-stdout".into()).spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                match serde_json::from_slice(&line) {
                    Ok(message) => {
                        if tell.send(message).is_err() {
                            return;
                        }
                    }
                    // Libraries print where they should not.
                    Err(_) => {
                        tracing::debug!(line = %String::from_utf8_lossy(&line), "proving process printed")
                    }
                }
            }
        })?;
        Ok(messages)
    }

    /// Passes its stderr on to ours, and remembers the end.
    fn last_words(&mut self) -> io::Result<LastWords> {
        let words = LastWords::default();
        let (kept, mut stderr) =
            (words.clone(), self.0.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
        thread::Builder::new().name("prover-stderr".into()).spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stderr.read(&mut buffer) {
                let _closed = io::stderr().write_all(&buffer[..len]);
                kept.add(&buffer[..len]);
            }
        })?;
        Ok(words)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.kill();
    }
}

#[derive(Clone, Default)]
struct LastWords(Arc<Mutex<Vec<u8>>>);

impl LastWords {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }

    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().to_owned()
    }
}

/// Why a child that reported nothing has ended.
fn ended(status: ExitStatus, last_words: &str) -> ProveError {
    let cry = last_words.lines().find(|line| {
        let line = line.to_lowercase();
        STARVED.iter().any(|cry| line.contains(cry))
    });
    if let Some(cry) = cry {
        return ProveError::OutOfMemory(format!("{cry} ({status})"));
    }
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return ProveError::OutOfMemory(format!(
            "the proving process was killed ({status}), as Linux does when memory runs out; smaller segments need less"
        ));
    }
    let skipped = last_words.chars().count().saturating_sub(REPORTED);
    let said: String = last_words.chars().skip(skipped).collect();
    let said = if said.is_empty() { "it said nothing".into() } else { format!("it said: {said}") };
    match status.signal() {
        Some(_) => {
            ProveError::Failed(format!("the proving process crashed ({status}); {said}").into())
        }
        None => ProveError::Unavailable(
            format!("the proving process ended without a result ({status}); {said}").into(),
        ),
    }
}

/// An input in a file, for as long as this lives.
fn kept(input: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(input)?;
    Ok(file)
}

/// Makes the folder if it is missing, and removes what is in it.
pub(crate) fn empty(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}
