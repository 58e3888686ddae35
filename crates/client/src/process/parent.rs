//! The parent's side: a prover that works in a child process.

use super::{
    PROOF, Setup,
    child::{Running, ended, plain, starved},
    empty,
    messages::{Assignment, Hello, Identity, Message, Outcome, PROTOCOL, VERSION, Work},
};
use crate::prover::{
    Cancel, Execution, FailureClass, Hardware, LEAST_SEGMENT_PO2, Measurement, PartFiles, Progress,
    ProofKind, ProofSystem, ProveError, Prover,
};
use alloy_primitives::B256;
use protocol::{ArtifactRef, messages::bounded};
use rustix::{fs::OFlags, io::Errno};
use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread,
    time::{Duration, Instant},
};

/// How often a waiting parent looks whether it should stop the child.
const TICK: Duration = Duration::from_millis(50);

/// How long a child may take to say who it is. It does so before anything else.
const HELLO: Duration = Duration::from_secs(60);

/// How long a child may live on after its last message.
const FAREWELL: Duration = Duration::from_secs(5);

/// The largest result, in bytes. A composite proof of a large batch has some 100 MB.
const MAX_RESULT: u64 = 1 << 30;

/// The flag of an executable that says the size of segments.
const SEGMENT_PO2: &str = "--segment-po2";

/// A self-test runs the program for an instant; one that takes so long hangs.
const SELF_TEST: Duration = Duration::from_secs(300);

/// Why a prover executable cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutableError {
    /// It is not there.
    #[error("{} is missing: {help}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What to do.
        help: &'static str,
    },
    /// It cannot be started.
    #[error("cannot start {}: {source}", path.display())]
    Start {
        /// The executable.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It speaks another version of the prover protocol.
    #[error(
        "{} is {name} {version} and speaks version {protocol} of the prover protocol, but this program ({VERSION}) speaks version \
         {PROTOCOL}: install both from the same release, or build both from the same sources", path.display()
    )]
    Protocol {
        /// The executable.
        path: PathBuf,
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// The protocol's version that it speaks.
        protocol: u32,
    },
    /// It is of another version than this program.
    #[error(
        "{} is {name} {version}, but this program is version {VERSION}: install both from the same release, or build both from \
         the same sources", path.display()
    )]
    Version {
        /// The executable.
        path: PathBuf,
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// It offers something else than is wanted: another proof system or program, or mocked proofs instead of real ones.
    #[error(
        "{} offers {offered}, but this program wants {wanted}: install both from the same release, or build both from the same \
         sources", path.display()
    )]
    Offer {
        /// The executable.
        path: PathBuf,
        /// What it offers.
        offered: String,
        /// What is wanted.
        wanted: String,
    },
}

/// What an executable must offer to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The proof system.
    pub system: ProofSystem,
    /// The id of the program it proves.
    pub program_id: B256,
    /// Whether its proofs are to be mocked, so that they prove nothing.
    pub mocked: bool,
}

/// A [`Prover`] that proves in a child process.
#[derive(Clone, Debug)]
pub struct ProverProcess {
    setup: Setup,
    identity: Identity,
    hardware: Hardware,
    /// The size of its segments, as a power of two of cycles, if it is another one than its arguments say. 0: it is not.
    segment_po2: Arc<AtomicU32>,
    /// The executable as it was when it was identified, even if an upgrade replaces its file.
    pinned: Option<Arc<File>>,
    /// The last child's peak memory in bytes; 0 if it is not known.
    peak: Arc<AtomicU64>,
}

impl ProverProcess {
    /// Proves in a child started by `setup`, which must offer the same prover as `like`.
    pub fn new(setup: Setup, like: &dyn Prover) -> Self {
        Self {
            setup,
            identity: Identity::of(like),
            hardware: Hardware::default(),
            segment_po2: Arc::default(),
            pinned: None,
            peak: Arc::default(),
        }
    }

    /// The same prover, which says that it may use this hardware.
    #[must_use]
    pub fn on(self, hardware: Hardware) -> Self {
        Self { hardware, ..self }
    }

    /// The same prover, with segments of another size than its arguments say. Nothing changes if they say none.
    #[must_use]
    pub fn with_segments(self, segment_po2: u32) -> Self {
        if self.says_segments().is_some() {
            self.segment_po2.store(segment_po2, Ordering::Relaxed);
        }
        self
    }

    /// Where its arguments say the size of segments.
    fn says_segments(&self) -> Option<usize> {
        let arguments = &self.setup.arguments;
        let flag = arguments.iter().position(|argument| argument == SEGMENT_PO2)?;
        Some(flag + 1).filter(|value| *value < arguments.len())
    }

    /// The arguments, with the size that segments have now.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = self.setup.arguments.clone();
        let segment_po2 = self.segment_po2.load(Ordering::Relaxed);
        if let Some(value) = self.says_segments()
            && segment_po2 > 0
        {
            arguments[value] = segment_po2.to_string().into();
        }
        arguments
    }

    /// Starts the executable of `setup` once, to see whether it offers what is wanted. It is then started for each piece of work.
    ///
    /// # Errors
    /// [`ProveError::Unavailable`] of an [`ExecutableError`] if it cannot be started, is of another version or offers something
    /// else; any [`ProveError`] that the executable reports, for instance for settings it does not take, or that says how it ended.
    pub fn identify(setup: Setup, wanted: &Wanted) -> Result<Self, ProveError> {
        let pinned = pin(&setup.program).map(Arc::new);
        let identity = Identity {
            system: wanted.system,
            program_id: wanted.program_id,
            kinds: Vec::new(),
            aggregate_id: None,
            lacks: Vec::new(),
            danger: None,
            segment_po2: None,
            engine: None,
        };
        let stall = setup.stall.min(SELF_TEST);
        let mut process = Self {
            setup,
            identity,
            hardware: Hardware::default(),
            segment_po2: Arc::default(),
            pinned,
            peak: Arc::default(),
        };
        let hasty = Self { setup: Setup { stall, ..process.setup.clone() }, ..process.clone() };
        let folder = tempfile::tempdir().map_err(ProveError::unavailable)?;
        match hasty.run(folder.path(), Work::Identify, &Cancel::new(), &|_| {})? {
            Outcome::Identity(identity) => {
                let text = |system, program_id, mocked| {
                    let proofs = if mocked { "mocked proofs" } else { "proofs" };
                    format!("{system} {proofs} of program {program_id}")
                };
                let offer = (identity.system, identity.program_id, identity.danger.is_some());
                let Wanted { system, program_id, mocked } = *wanted;
                if offer != (system, program_id, mocked) {
                    let error = ExecutableError::Offer {
                        path: process.setup.program,
                        offered: text(offer.0, offer.1, offer.2),
                        wanted: text(system, program_id, mocked),
                    };
                    return Err(error.into());
                }
                let danger = identity.danger.as_deref().map(plain);
                let engine = identity.engine.as_deref().map(bounded);
                process.identity = Identity { danger, engine, ..identity };
                Ok(process)
            }
            other => Err(mixed_up(&other)),
        }
    }

    /// Runs a child to its end, with its temporary files in `folder`. Blocks, on a thread that must live as long as the child: the
    /// kernel kills a child when the thread that started it ends.
    fn run(
        &self,
        folder: &Path,
        work: Work,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Outcome, ProveError> {
        let setup = &self.setup;
        let program = match &self.pinned {
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            None => setup.program.clone(),
        };
        let mut child = Command::new(program)
            .arg0(&setup.program)
            .args(self.arguments())
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .env("TMPDIR", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map(Running::new)
            .map_err(|source| ExecutableError::Start { path: setup.program.clone(), source })?;
        let assignment = Assignment { protocol: PROTOCOL, parent: std::process::id(), work };
        let mut assignment = serde_json::to_vec(&assignment)
            .map_err(|error| ProveError::Unavailable(error.into()))?;
        assignment.push(b'\n');
        let mut stdin = child.child.stdin.take();
        let messages = child.messages().map_err(|error| ProveError::Unavailable(error.into()))?;
        let last_words =
            child.last_words().map_err(|error| ProveError::Unavailable(error.into()))?;

        self.peak.store(0, Ordering::Relaxed);
        let started = Instant::now();
        let (mut moved, mut greeted, mut result) = (started, false, None);
        // Only its first word on the result counts.
        let take = |message, result: &mut Option<Result<Outcome, ProveError>>| match message {
            Message::Done { result: outcome, peak_memory_bytes } if result.is_none() => {
                self.peak.store(peak_memory_bytes.unwrap_or_default(), Ordering::Relaxed);
                *result = Some(Ok(outcome));
            }
            Message::Failed { class, detail } if result.is_none() => {
                *result = Some(Err(failed(class, &detail)));
            }
            _ => {}
        };
        let mut finished = None;
        let status = loop {
            match messages.recv_timeout(TICK) {
                Ok(Message::Hello(hello)) if !greeted => {
                    // ORDER: a child of another version gets no work.
                    check(&hello, &setup.program)?;
                    // A child that does not listen has ended or hangs; which, this loop finds out. The line fits into a pipe.
                    let _heard = stdin.take().map(|mut stdin| stdin.write_all(&assignment));
                    (greeted, moved) = (true, Instant::now());
                }
                // Who has not said who he is has no say.
                Ok(_) if !greeted => {}
                Ok(Message::Progress(step)) => {
                    moved = Instant::now();
                    progress(step);
                }
                Ok(message) => {
                    moved = Instant::now();
                    take(message, &mut result);
                    if result.is_some() {
                        finished.get_or_insert(moved);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It has closed its stdout: it is at its end, or hangs there.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK / 10),
            }
            if let Some(status) = child.ended().map_err(ProveError::unavailable)? {
                break status;
            }
            if let Some(finished) = finished {
                // However much it goes on to say.
                if finished.elapsed() > FAREWELL {
                    break child.kill().map_err(ProveError::unavailable)?;
                }
                continue;
            }
            let hello = HELLO.min(setup.stall).min(setup.limit);
            let hung = if cancel.is_set() {
                ProveError::Cancelled
            } else if !greeted && started.elapsed() > hello {
                ProveError::TimedOut(format!(
                    "{} did not say within {hello:?} that it is a prover executable",
                    setup.program.display()
                ))
            } else if greeted && moved.elapsed() > setup.stall {
                ProveError::TimedOut(format!("no progress for {:?}", setup.stall))
            } else if started.elapsed() > setup.limit {
                ProveError::TimedOut(format!("not finished after {:?}", setup.limit))
            } else {
                continue;
            };
            child.kill().map_err(ProveError::unavailable)?;
            return Err(hung);
        };
        // What it said last may still be in the pipe, and somebody else may still hold that open.
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until
            && let Ok(message) = messages.recv_timeout(until.duration_since(Instant::now()))
        {
            match message {
                Message::Hello(hello) if !greeted => check(&hello, &setup.program)?,
                message if greeted => take(message, &mut result),
                _ => {}
            }
        }
        // However it ended after that: what it has reported counts.
        result.unwrap_or_else(|| Err(ended(status, &last_words.text())))
    }

    /// Runs a child that makes a proof, in our folder.
    fn make_proof(
        &self,
        work: impl FnOnce(PathBuf) -> Work,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        let folder = &self.setup.folder;
        empty(folder).map_err(ProveError::unavailable)?;
        let proof = folder.join(PROOF);
        let done = self.run(folder, work(proof.clone()), cancel, progress).inspect_err(|_| {
            // What a killed child leaves behind can be large.
            let _later = empty(folder);
        })?;
        match done {
            Outcome::Proof(artifact) => Self::read(&proof, artifact),
            other => Err(mixed_up(&other)),
        }
    }

    /// Runs a child whose result is small, with files in a folder of its own: several of them may run at the same time.
    fn run_aside(
        &self,
        input: &[u8],
        work: impl FnOnce(PathBuf, PathBuf) -> Work,
    ) -> Result<(Outcome, PathBuf, tempfile::TempDir), ProveError> {
        let folder = tempfile::tempdir().map_err(ProveError::unavailable)?;
        let file = kept(input).map_err(ProveError::unavailable)?;
        let public_values = folder.path().join("public-values");
        let work = work(file.path().into(), public_values.clone());
        let outcome = self.run(folder.path(), work, &Cancel::new(), &|_| {})?;
        Ok((outcome, public_values, folder))
    }

    /// Reads what the child has written: a regular file of the length it reported, nothing that never ends or lies elsewhere.
    fn read(path: &Path, wanted: ArtifactRef) -> Result<Vec<u8>, ProveError> {
        let wrong = |what: &str| {
            let text = format!("the proving process wrote {what} where its result should be");
            ProveError::Failed(text.into())
        };
        // ORDER: a pipe must not be waited for, so the file is opened without blocking and looked at afterwards.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = file.map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::LOOP.raw_os_error() => wrong("a link"),
            _ => ProveError::unavailable(error),
        })?;
        let about = file.metadata().map_err(ProveError::unavailable)?;
        if !about.is_file() {
            return Err(wrong("no file"));
        }
        if wanted.len > MAX_RESULT || about.len() != wanted.len {
            return Err(wrong("a file of another length than it says"));
        }
        let mut bytes = Vec::new();
        file.take(wanted.len).read_to_end(&mut bytes).map_err(ProveError::unavailable)?;
        if wanted == ArtifactRef::of(&bytes) {
            return Ok(bytes);
        }
        Err(wrong("other bytes than it says"))
    }
}

impl Prover for ProverProcess {
    fn system(&self) -> ProofSystem {
        self.identity.system
    }

    fn program_id(&self) -> B256 {
        self.identity.program_id
    }

    fn danger(&self) -> Option<&str> {
        self.identity.danger.as_deref()
    }

    fn kinds(&self) -> Vec<ProofKind> {
        self.identity.kinds.clone()
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
        let work = |proof| Work::Prove { input: input.into(), kind, proof };
        self.make_proof(work, cancel, progress)
    }

    fn lacks(&self) -> Vec<(ProofKind, String)> {
        self.identity.lacks.clone()
    }

    fn aggregate_id(&self) -> Option<B256> {
        self.identity.aggregate_id
    }

    fn segment_po2(&self) -> Option<u32> {
        match self.segment_po2.load(Ordering::Relaxed) {
            0 => self.identity.segment_po2,
            other => Some(other),
        }
    }

    fn shrink_segments(&self) -> Option<u32> {
        self.says_segments()?;
        let smaller = self.segment_po2()?.checked_sub(1)?;
        if smaller < LEAST_SEGMENT_PO2 {
            return None;
        }
        self.segment_po2.store(smaller, Ordering::Relaxed);
        Some(smaller)
    }

    fn engine(&self) -> Option<String> {
        self.identity.engine.clone()
    }

    fn hardware(&self) -> Hardware {
        self.hardware.clone()
    }

    fn prove_part(
        &self,
        input: &Path,
        part: &PartFiles,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        let work = |proof| Work::ProvePart { input: input.into(), part: part.clone(), proof };
        self.make_proof(work, cancel, progress)
    }

    fn plan(&self, input: &Path, segment_po2: u32) -> Result<Vec<u8>, ProveError> {
        let folder = tempfile::tempdir().map_err(ProveError::unavailable)?;
        let plan = folder.path().join("plan");
        let work = Work::Plan { input: input.into(), segment_po2, plan: plan.clone() };
        match self.run(folder.path(), work, &Cancel::new(), &|_| {})? {
            Outcome::Planned(artifact) => Self::read(&plan, artifact),
            other => Err(mixed_up(&other)),
        }
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        let (done, path, _folder) =
            self.run_aside(input, |input, public_values| Work::Execute { input, public_values })?;
        match done {
            Outcome::Executed { public_values, cycles } => {
                Ok(Execution { public_values: Self::read(&path, public_values)?, cycles })
            }
            other => Err(mixed_up(&other)),
        }
    }

    fn measure(
        &self,
        input: &[u8],
        program: Option<&Path>,
        profile: Option<&Path>,
    ) -> Result<Measurement, ProveError> {
        let (program, profile) = (program.map(PathBuf::from), profile.map(PathBuf::from));
        let (done, path, _folder) = self.run_aside(input, |input, public_values| {
            Work::Measure { input, public_values, program, profile }
        })?;
        match done {
            Outcome::Measured { public_values, measurement } => {
                let public_values = Self::read(&path, public_values)?;
                Ok(Measurement { public_values, ..measurement })
            }
            other => Err(mixed_up(&other)),
        }
    }

    fn peak_memory(&self) -> Option<u64> {
        Some(self.peak.load(Ordering::Relaxed)).filter(|peak| *peak > 0)
    }

    fn self_test(&self) -> Result<(), ProveError> {
        let folder = &self.setup.folder;
        empty(folder).map_err(ProveError::unavailable)?;
        let stall = self.setup.stall.min(SELF_TEST);
        let hasty = Self { setup: Setup { stall, ..self.setup.clone() }, ..self.clone() };
        match hasty.run(folder, Work::SelfTest, &Cancel::new(), &|_| {})? {
            Outcome::Healthy => Ok(()),
            other => Err(mixed_up(&other)),
        }
    }
}

impl Identity {
    /// What `prover` says of itself.
    pub fn of(prover: &dyn Prover) -> Self {
        Self {
            system: prover.system(),
            program_id: prover.program_id(),
            kinds: prover.kinds(),
            aggregate_id: prover.aggregate_id(),
            lacks: prover.lacks(),
            danger: prover.danger().map(str::to_owned),
            segment_po2: prover.segment_po2(),
            engine: prover.engine(),
        }
    }
}

impl From<ExecutableError> for ProveError {
    fn from(error: ExecutableError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Compares what the child says of itself with what we are.
fn check(hello: &Hello, path: &Path) -> Result<(), ExecutableError> {
    let Hello { protocol, .. } = *hello;
    let (name, version) = (plain(&hello.name), plain(&hello.version));
    let path = path.to_owned();
    if protocol != PROTOCOL {
        return Err(ExecutableError::Protocol { path, name, version, protocol });
    }
    if hello.version != VERSION {
        return Err(ExecutableError::Version { path, name, version });
    }
    Ok(())
}

/// Holds on to the executable at `path`. A script is not held: its interpreter opens it by name.
fn pin(path: &Path) -> Option<File> {
    let mut file = File::open(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok()?;
    (magic == *b"\x7fELF").then_some(file)
}

/// What a child reported. Libraries that find no memory, on a GPU for instance, do not say so by a class of failures, but in words.
fn failed(class: FailureClass, detail: &str) -> ProveError {
    let class = match class {
        FailureClass::BackendFailed if starved(detail).is_some() => FailureClass::OutOfMemory,
        class => class,
    };
    ProveError::of(class, plain(detail))
}

/// The child did something else than it was asked for.
fn mixed_up(outcome: &Outcome) -> ProveError {
    ProveError::Failed(format!("the proving process answers what nobody asked: {outcome:?}").into())
}

/// An input in a file, for as long as this lives.
fn kept(input: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(input)?;
    Ok(file)
}
