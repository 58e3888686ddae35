//! From a prover's name to the prover. The `exec` prover is in this program; a zkVM's is an executable of its own, which is started
//! for each piece of work (`docs/prover-protocol.md`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use client::process::{ExecutableError, Setup, Wanted};
use client::{ExecProver, Prover, ProverProcess};
use protocol::{ProofKind, ProofSystem};
use url::Url;

use crate::args::{EngineArgs, ExecutableArgs, Global, KindArg, ProverArg, ZkvmArgs};
use crate::logs::LogFormat;
use crate::machine::{Device, usable_memory};
use crate::output::Output;

/// Where and how long a prover's process may work.
#[derive(Clone, Debug)]
pub(crate) struct Workplace {
    /// Folder of its temporary files and of its proof, while it proves.
    pub folder: PathBuf,
    /// It is hung if it reports no progress for so long.
    pub stall: Duration,
    /// It is hung if it takes longer than this.
    pub limit: Duration,
    /// What it logs, unless the user says something else.
    pub log: &'static str,
    /// How many provers share this machine's memory; 0 if none proves, but only runs the program.
    pub provers: u32,
    /// The GPU that is for it, if there are any.
    pub device: Option<Device>,
    /// The engine that it asks, if other machines prove.
    pub engine: EngineArgs,
    /// Where it keeps the ids of that engine's sessions.
    pub sessions: Option<PathBuf>,
}

impl Workplace {
    /// For a command that a person waits for, and ends.
    pub(crate) fn attended(folder: impl Into<PathBuf>) -> Self {
        let (stall, limit) = (Duration::MAX, Duration::MAX);
        let (engine, sessions) = (EngineArgs::default(), None);
        let (folder, log, provers, device) = (folder.into(), "error", 1, None);
        Self { folder, stall, limit, log, provers, device, engine, sessions }
    }

    /// For a command that runs the program and proves nothing: that needs no folder which stays.
    pub(crate) fn without_proofs() -> Self {
        let name = format!("l2-prover-{}", std::process::id());
        Self { provers: 0, ..Self::attended(std::env::temp_dir().join(name)) }
    }
}

impl ProverArg {
    /// The best prover that is there: the engine's if there is one, a zkVM whose executable is found, else `exec`.
    pub(crate) fn best(executable: &ExecutableArgs, engine: &EngineArgs) -> Self {
        if engine.engine.is_some() {
            return Self::Risc0;
        }
        let mut zkvms = Self::value_variants().iter().filter(|prover| **prover != Self::Exec);
        let found = zkvms.find(|prover| prover.executable(executable, engine).is_ok());
        found.copied().unwrap_or(Self::Exec)
    }

    /// The prover of a proof system.
    pub(crate) fn of(system: ProofSystem) -> Self {
        match system {
            ProofSystem::Exec => Self::Exec,
            _ => Self::Risc0,
        }
    }

    /// The proof system, as server and client name it.
    pub(crate) fn system(self) -> ProofSystem {
        match self {
            Self::Exec => ProofSystem::Exec,
            Self::Risc0 => ProofSystem::Risc0,
        }
    }

    /// The proof system, as the verifier names it.
    pub(crate) fn verified_as(self) -> verifier::System {
        server::jobs::verification::verifier_of(self.system())
            .expect("l2-prover offers only what it verifies")
    }

    /// The program that proofs of this system are asked for by default.
    pub(crate) fn pinned_program_id(self) -> [u8; 32] {
        self.verified_as().program_id()
    }

    /// The prover itself. A zkVM's executable is started once, to see that it fits. Blocks, and its processes end with the thread
    /// that uses it.
    ///
    /// # Errors
    /// If the executable is missing, does not fit or can't be set up.
    pub(crate) fn build(
        self,
        zkvm: &ZkvmArgs,
        workplace: Workplace,
        global: &Global,
    ) -> anyhow::Result<Arc<dyn Prover>> {
        if self == Self::Exec && workplace.engine.engine.is_none() {
            return Ok(Arc::new(ExecProver));
        }
        Ok(Arc::new(self.start(zkvm, workplace, global)?))
    }

    /// The prover in a process of its own, whichever it is.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub(crate) fn start(
        self,
        zkvm: &ZkvmArgs,
        workplace: Workplace,
        global: &Global,
    ) -> anyhow::Result<ProverProcess> {
        let log = global.log.as_deref().unwrap_or(workplace.log);
        let mut arguments: Vec<OsString> = ["--log", log].map(OsString::from).to_vec();
        if global.log_format() == LogFormat::Json {
            arguments.extend(["--log-format".into(), "json".into()]);
        }
        let Workplace { folder, stall, limit, engine, sessions, provers, device, .. } = workplace;
        ensure!(
            self == Self::Risc0 || engine.engine.is_none(),
            "--engine makes proofs of risc0, not of {}: use --prover risc0 or leave out --engine",
            self.system()
        );
        let mut setup = Setup {
            // The very program that runs now, even if an upgrade has replaced its file.
            program: "/proc/self/exe".into(),
            arguments,
            // It talks to no server.
            environment: vec![("L2_PROVER_TOKEN".into(), OsString::new())],
            folder,
            stall,
            limit,
        };
        setup.environment.extend(device.iter().flat_map(Device::environment));
        if self == Self::Exec {
            setup.arguments.insert(0, "prover-process".into());
            if global.json {
                setup.arguments.push("--json".into());
            }
            return Ok(ProverProcess::new(setup, &ExecProver));
        }
        setup.program = self.executable(&zkvm.executable, &engine)?;
        let chosen = engine.engine.is_some() || zkvm.segment_po2.is_some();
        setup.arguments.extend(match engine.engine {
            // How large its segments are, an engine decides.
            Some(url) => {
                engine_flags(url, engine.engine_key_file, engine.danger_plain_http, sessions)
            }
            None => {
                let po2 = zkvm.segment_po2.unwrap_or(UNKNOWN_PO2);
                vec!["--segment-po2".into(), po2.to_string().into()]
            }
        });
        // Said either way: the environment may say something else than the flags.
        setup.environment.push(("RISC0_DEV_MODE".into(), zkvm.dev_mode.to_string().into()));
        let program_id = B256::new(self.pinned_program_id());
        let wanted = Wanted { system: self.system(), program_id, mocked: zkvm.dev_mode };
        let prover = ProverProcess::identify(setup, &wanted)
            .with_context(|| format!("failed to set up the prover {}", self.system()))?;
        if chosen {
            return Ok(prover);
        }
        let provers = if zkvm.dev_mode { 0 } else { provers };
        let device = device.filter(|_| uses_gpus(&prover));
        let po2 = segment_po2(provers, device.as_ref());
        Ok(prover.with_segments(po2))
    }

    /// Where the executable of this zkVM, or of the engine, is: where the user says, or beside this program.
    fn executable(
        self,
        args: &ExecutableArgs,
        engine: &EngineArgs,
    ) -> Result<PathBuf, ExecutableError> {
        let (name, help) = match engine.engine {
            Some(_) => ("l2-prover-bonsai".to_owned(), MISSING_ENGINE),
            None => (format!("l2-prover-{}", self.system()), MISSING),
        };
        let beside = || {
            let ours = std::env::current_exe().unwrap_or_default();
            ours.parent().unwrap_or(Path::new("")).join(name)
        };
        let path = args.prover_executable.clone().unwrap_or_else(beside);
        if path.is_file() { Ok(path) } else { Err(ExecutableError::Missing { path, help }) }
    }
}

/// What divides runs into parts, by executing them with `prover`. Inputs are written to `folder` for it.
pub(crate) fn planner(prover: Arc<dyn Prover>, folder: PathBuf) -> server::Planner {
    server::Planner::new(move |input, segment_po2| {
        let plan = || -> anyhow::Result<Vec<u8>> {
            std::fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            std::io::Write::write_all(&mut file, input)?;
            Ok(prover.plan(file.path(), segment_po2)?)
        };
        plan().map_err(|error| format!("{error:#}"))
    })
}

/// Whether a prover computes on GPUs of NVIDIA.
pub(crate) fn uses_gpus(prover: &dyn Prover) -> bool {
    prover.engine().is_some_and(|engine| engine.ends_with(" cuda"))
}

/// The segment size, if the user names none: the largest that takes at most half of the memory which a prover may use (on a GPU: three
/// quarters), that of its card if it uses one, else of this process, shared among `provers`; where nothing is proven, the one for which
/// costs are estimated.
fn segment_po2(provers: u32, device: Option<&Device>) -> u32 {
    if provers == 0 {
        return UNPROVEN_PO2;
    }
    let (memory, of) = match device {
        Some(device) => (Some(device.memory()), &*device.card.gpu.name),
        None => (usable_memory().map(|memory| memory / u64::from(provers)), "this machine"),
    };
    let Some(memory) = memory else { return UNKNOWN_PO2 };
    let po2 = if device.is_some() { fitting_po2_on_card(memory) } else { fitting_po2(memory) };
    tracing::info!(
        segment_po2 = po2,
        memory_gb = memory / 1_000_000_000,
        of,
        "segments are as large as the memory allows (--segment-po2 for another size)"
    );
    po2
}

/// The segment size if nobody knows how much memory there is.
const UNKNOWN_PO2: u32 = 18;

/// The segment size where nothing is proven.
const UNPROVEN_PO2: u32 = 20;

/// What proving a segment takes without a GPU, in bytes: 2.2 GB for 2^18 cycles, and in proportion.
const fn segment_memory(po2: u32) -> u64 {
    9_000 << po2
}

/// The largest segment size that takes at most half of this memory. 22 is for who asks for it: on one core such a segment takes an hour,
/// within which a prover has to show progress.
fn fitting_po2(memory: u64) -> u32 {
    (16..=21).rev().find(|po2| segment_memory(*po2) <= memory / 2).unwrap_or(16)
}

/// What proofs take of a GPU's memory with segments of 2^21 and 2^22, in bytes, as measured (docs/benchmarks.md#on-a-gpu). With smaller
/// ones they take hardly less than with 2^21, because of the batches of keccak permutations.
const ON_CARD: [(u32, u64); 2] = [(22, 46_300_000_000), (21, 31_000_000_000)];

/// The largest segment size that takes at most three quarters of a card's memory. On a card too small for what was measured, it is the
/// one that would fit without a GPU: a prover whose memory runs out makes smaller segments.
fn fitting_po2_on_card(memory: u64) -> u32 {
    let fitting = ON_CARD.iter().find(|(_, bytes)| *bytes <= memory / 4 * 3);
    fitting.map_or_else(|| fitting_po2(memory).min(20), |(po2, _)| *po2)
}

/// The flags of `l2-prover-bonsai`.
fn engine_flags(
    url: Url,
    key_file: Option<PathBuf>,
    danger_plain_http: bool,
    sessions: Option<PathBuf>,
) -> Vec<OsString> {
    let mut flags: Vec<OsString> = vec!["--url".into(), String::from(url).into()];
    if let Some(file) = key_file {
        flags.extend(["--key-file".into(), file.into()]);
    }
    if danger_plain_http {
        flags.push("--danger-plain-http".into());
    }
    if let Some(folder) = sessions {
        flags.extend(["--sessions".into(), folder.into()]);
    }
    flags
}

/// What to do if there is no executable.
const MISSING: &str = "build it with `cargo build --release -p l2 --features build_zkvm`, name it with --prover-executable, \
                       or use --prover exec, which proves nothing";

/// What to do if there is no executable for engines.
const MISSING_ENGINE: &str =
    "build it with `cargo build --release -p l2`, or name it with --prover-executable";

impl From<KindArg> for ProofKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Composite => Self::Composite,
            KindArg::Succinct => Self::Succinct,
        }
    }
}

/// # Errors
/// If the prover does not make proofs of this kind: names those that it makes.
pub(crate) fn check_kind(prover: &dyn Prover, kind: ProofKind) -> anyhow::Result<()> {
    let kinds = prover.kinds();
    let names: Vec<_> = kinds.iter().map(ToString::to_string).collect();
    ensure!(
        kinds.contains(&kind),
        "{} makes no {kind} proofs here: use --kind {}",
        prover.system(),
        names.join(" or --kind ")
    );
    Ok(())
}

/// Says loudly that the prover's proofs prove nothing, if so. Returns whether they do not.
pub(crate) fn warn_if_mocked(prover: &dyn Prover, output: &Output) -> bool {
    let Some(danger) = prover.danger() else { return false };
    output.warn(&format!("{danger}: these proofs are mocked and prove NOTHING."));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Card;

    #[test]
    fn segments_grow_with_the_memory() {
        let fitting = [1, 2, 4, 8, 16, 24, 64, 96, 1000].map(|gb| fitting_po2(gb << 30));
        assert_eq!(fitting, [16, 16, 17, 18, 19, 20, 21, 21, 21]);
        assert!(segment_po2(1000, None) <= segment_po2(1, None));
        assert_eq!(segment_po2(0, None), UNPROVEN_PO2);
        let card = |mebibytes: u64, provers| {
            let gpu = protocol::Gpu { name: "a card".into(), memory_bytes: mebibytes << 20 };
            Device { card: Card { index: 0, uuid: String::new(), gpu }, provers }
        };
        for (mebibytes, provers, po2) in [
            (8_188, 1, 18),
            (23_034, 1, 20),
            (23_034, 2, 19),
            (46_068, 1, 21),
            (143_771, 1, 22),
            (143_771, 2, 22),
            (143_771, 3, 21),
            (143_771, 4, 20),
        ] {
            assert_eq!(
                segment_po2(1, Some(&card(mebibytes, provers))),
                po2,
                "{mebibytes} / {provers}"
            );
        }
    }

    #[test]
    fn every_prover_has_one_name_everywhere_and_is_verified() {
        for prover in ProverArg::value_variants() {
            let name = prover.to_possible_value().expect("it is shown").get_name().to_owned();
            assert_eq!(prover.system().to_string(), name);
            assert_eq!(prover.verified_as().to_string(), name);
        }
    }
}
