//! Guests: what is built for a zkVM, and its pinned id.
//!
//! * `guests/<guest>/pinned/` holds the program binary that is proven and, in `id.toml`, its image id and what made it.
//! * A file of `crates/verifier/src` holds the same id for verifiers.
//! * The guest that folds proofs is built after the program, whose id it contains.
//! * The id depends on the sources, the lock file, the compiler and the flags alone: not on the folder of the checkout,
//!   of the target directory, of cargo's home or of the compiler's sources.
//!
//! The compiler is Debian's (`rustc-web`), which builds the standard library from `rust-web-src` for the zkVM's target.
//! `L2_GUEST_RUSTC` and `L2_GUEST_CARGO` name another one; it gives another id.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use risc0_binfmt::ProgramBinary;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Debian's packages with the guests' compiler.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm"];

pub(crate) const RISC0_TARGET: &str = "riscv32im-risc0-zkvm-elf";
/// It has atomics, which `Arc` needs; a zkVM's target has them by lowering them to plain loads and stores.
const BARE_TARGET: &str = "riscv32imac-unknown-none-elf";

/// Flags that shape the RISC Zero guest, in the order rustc gets them.
const RISC0_FLAGS: [&str; 6] = [
    "-Cpasses=lower-atomic",
    "-Clink-arg=-Ttext=0x00200800",
    "-Clink-arg=--fatal-warnings",
    "-Cpanic=abort",
    "--cfg",
    "getrandom_backend=\"custom\"",
];

/// A guest of RISC Zero.
struct Guest {
    /// What it is called in messages.
    name: &'static str,
    /// Its folder below `guests`.
    folder: &'static str,
    /// Its package.
    package: &'static str,
    /// Its executable.
    bin: &'static str,
    /// The file of `crates/verifier/src` with its id.
    pinned: &'static str,
    /// The constant there.
    constant: &'static str,
    /// What the constant's docs say.
    docs: &'static str,
    /// Whether what it computes must be left to RISC Zero's circuits.
    accelerated: bool,
}

/// What executes blocks.
const PROGRAM: Guest = Guest {
    name: "the RISC Zero guest",
    folder: "risc0",
    package: "guest-risc0",
    bin: "l2-program",
    pinned: "pinned.rs",
    constant: "RISC0_PROGRAM_ID",
    docs: "Image id of the program in `guests/risc0/pinned`: the program id of every real RISC Zero proof.",
    accelerated: true,
};

/// What folds proofs. It hashes a few dozen bytes a batch, which is cheaper in software than a proof of the keccak circuit.
const AGGREGATE: Guest = Guest {
    name: "the RISC Zero guest that folds proofs",
    folder: "risc0-aggregate",
    package: "guest-risc0-aggregate",
    bin: "l2-aggregate",
    pinned: "pinned_aggregate.rs",
    constant: "RISC0_AGGREGATE_ID",
    docs: "Image id of the guest in `guests/risc0-aggregate/pinned`: the program id of every real RISC Zero proof that is folded from others.",
    accelerated: false,
};

/// In the order in which they are built.
const GUESTS: [&Guest; 2] = [&PROGRAM, &AGGREGATE];

/// What `id.toml` records about a pinned guest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pinned {
    /// Hexadecimal image id: the program id that a verifier is asked for.
    image_id: String,
    /// Hexadecimal SHA-256 of the program binary beside this file.
    sha256: String,
    /// `rustc --version` of the compiler.
    rustc: String,
    /// Hexadecimal SHA-256 of `guests/Cargo.lock`.
    lock_sha256: String,
    /// Flags of rustc, without the remapped paths.
    flags: Vec<String>,
}

/// Builds the guests and pins them.
///
/// # Errors
/// Names the missing compiler, the failed step or the file that cannot be written.
pub(crate) fn pin(root: &Path) -> anyhow::Result<String> {
    let mut told = Vec::new();
    for guest in GUESTS {
        let (binary, pinned) = build_risc0(guest, root, &[], Symbols::Stripped)?;
        let folder = guest.pinned_folder(root);
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to create {}", folder.display()))?;
        write(&guest.binary(root), &binary)?;
        let text = toml::to_string(&pinned).context("failed to encode id.toml")?;
        write(
            &folder.join("id.toml"),
            format!("# Written by `cargo xtask guests`.\n{text}").as_bytes(),
        )?;
        write(&guest.pinned_rs(root), guest.source(&pinned.image_id).as_bytes())?;
        let (name, id) = (guest.name, pinned.image_id);
        told.push(format!("pinned {name}: image id {id}, {} bytes", binary.len()));
    }
    Ok(told.join("\n"))
}

/// Builds the guests and compares them with the pinned ones.
///
/// # Errors
/// Names both image ids, or the file, if anything pinned differs from what was built.
pub(crate) fn check(root: &Path) -> anyhow::Result<String> {
    let told = GUESTS.iter().map(|guest| check_one(guest, root)).collect::<Result<Vec<_>, _>>()?;
    Ok(told.join("\n"))
}

fn check_one(guest: &Guest, root: &Path) -> anyhow::Result<String> {
    let (name, path) = (guest.name, guest.pinned_folder(root).join("id.toml"));
    let text =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let pinned: Pinned =
        toml::from_str(&text).with_context(|| format!("failed to read {}", path.display()))?;
    let (binary, built) = build_risc0(guest, root, &["--locked"], Symbols::Stripped)?;
    ensure!(
        built.image_id == pinned.image_id,
        "{name} has image id {}, but {} is pinned\n  built with  {}\n  pinned with {}\n\
         run `cargo xtask guests` if the change is meant, and commit what it writes",
        built.image_id,
        pinned.image_id,
        built.rustc,
        pinned.rustc,
    );
    ensure!(built == pinned, "{} does not describe this build: expected {built:?}", path.display());
    for (path, expected) in [
        (guest.binary(root), binary),
        (guest.pinned_rs(root), guest.source(&pinned.image_id).into_bytes()),
    ] {
        let found =
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        ensure!(
            found == expected,
            "{} is not what `cargo xtask guests` writes for {}",
            path.display(),
            built.image_id
        );
    }
    Ok(format!("{name} has the pinned image id: {}", pinned.image_id))
}

/// Builds the RISC Zero guest with the names of its functions, for profiles: the same instructions, but not the same
/// file.
///
/// # Errors
/// As [`pin`].
pub(crate) fn with_symbols(root: &Path, file: &Path) -> anyhow::Result<String> {
    let (binary, built) = build_risc0(&PROGRAM, root, &["--locked"], Symbols::Kept)?;
    write(file, &binary)?;
    Ok(format!("wrote {}: image id {}", file.display(), built.image_id))
}

/// Whether a guest keeps the names of its functions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Symbols {
    Stripped,
    Kept,
}

/// Builds `program`, without its default features, for a machine without an operating system.
///
/// # Errors
/// Names the missing compiler or the failed build.
pub(crate) fn bare(root: &Path) -> anyhow::Result<String> {
    let compiler = Compiler::find()?;
    let mut cargo = compiler.cargo(root, &[]);
    cargo.current_dir(root).args([
        "build",
        "--locked",
        "--package",
        "program",
        "--no-default-features",
    ]);
    cargo.args([
        "--target",
        BARE_TARGET,
        "-Zbuild-std=core,alloc",
        "-Zbuild-std-features=compiler-builtins-mem",
    ]);
    cargo.arg("--target-dir").arg(target_folder(root)?.join("bare"));
    run(&mut cargo)?;
    Ok(format!("`program` builds for {BARE_TARGET}"))
}

impl Guest {
    fn pinned_folder(&self, root: &Path) -> PathBuf {
        root.join("guests").join(self.folder).join("pinned")
    }

    fn binary(&self, root: &Path) -> PathBuf {
        self.pinned_folder(root).join(format!("{}.bin", self.bin))
    }

    fn pinned_rs(&self, root: &Path) -> PathBuf {
        root.join("crates/verifier/src").join(self.pinned)
    }

    /// The file with its id.
    fn source(&self, image_id: &str) -> String {
        let (docs, constant) = (self.docs, self.constant);
        let bytes = image_id
            .as_bytes()
            .chunks(2)
            .map(|byte| format!("0x{}", String::from_utf8_lossy(byte)));
        let lines: Vec<String> = bytes
            .collect::<Vec<_>>()
            .chunks(8)
            .map(|line| format!("    {},\n", line.join(", ")))
            .collect();
        format!(
            "//! Written by `cargo xtask guests`.\n\n\
             /// {docs}\n\
             #[rustfmt::skip]\n\
             pub const {constant}: [u8; 32] = [\n{}];\n",
            lines.concat()
        )
    }
}

/// Builds a guest: returns the program binary and what `id.toml` records about it.
fn build_risc0(
    guest: &Guest,
    root: &Path,
    options: &[&str],
    symbols: Symbols,
) -> anyhow::Result<(Vec<u8>, Pinned)> {
    let compiler = Compiler::find()?;
    let target = target_folder(root)?.join(match symbols {
        Symbols::Stripped => "guests",
        Symbols::Kept => "guests-symbols",
    });
    let guests = root.join("guests");

    let mut flags: Vec<String> = RISC0_FLAGS.map(str::to_owned).to_vec();
    // The last prefix that matches wins: the target directory may lie inside the checkout.
    for (from, to) in [
        (cargo_home()?, "/cargo"),
        (root.to_owned(), "/l2"),
        (compiler.std_sources.clone(), "/rust"),
        (target.clone(), "/target"),
    ] {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    let mut cargo = compiler.cargo(root, &flags);
    cargo
        .current_dir(&guests)
        .args(["build", "--release", "--package", guest.package])
        .args(options);
    cargo.args(["--target", RISC0_TARGET, "-Zbuild-std=alloc,core,proc_macro,panic_abort,std"]);
    cargo.arg("-Zbuild-std-features=compiler-builtins-mem").arg("--target-dir").arg(&target);
    // What risc0-build sets for the crate risc0-bigint2.
    cargo.env("RISC0_FEATURE_bigint2", "1");
    if symbols == Symbols::Kept {
        cargo.env("CARGO_PROFILE_RELEASE_STRIP", "none");
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    }
    let map = target.join(format!("{}.map", guest.bin));
    cargo.env("L2_GUEST_MAP", &map);
    run(&mut cargo)?;
    if guest.accelerated {
        check_accelerated(&map)?;
    }

    let elf = target.join(RISC0_TARGET).join("release").join(guest.bin);
    let elf = fs::read(&elf).with_context(|| format!("failed to read {}", elf.display()))?;
    let binary = ProgramBinary::new(&elf, risc0_zkos_v1compat::V1COMPAT_ELF);
    let image_id = binary.compute_image_id().context("failed to compute the image id")?;
    let lock = guests.join("Cargo.lock");
    let lock = fs::read(&lock).with_context(|| format!("failed to read {}", lock.display()))?;
    let binary = binary.encode();
    let pinned = Pinned {
        image_id: hex::encode(image_id.as_bytes()),
        sha256: hex::encode(Sha256::digest(&binary)),
        rustc: compiler.version,
        lock_sha256: hex::encode(Sha256::digest(&lock)),
        flags: RISC0_FLAGS.map(str::to_owned).to_vec(),
    };
    Ok((binary, pinned))
}

/// Crates that compute in software what RISC Zero has circuits for, and what they compute. Software for elliptic curves
/// and SHA-256 is linked because of revm's defaults; the cycle table (docs/cycles.md) shows that nothing calls it.
const REPLACED: [(&str, &str); 2] = [("tiny_keccak", "Keccak-256"), ("4sha3", "Keccak-256")];

/// Searches the linker's map for functions that must not be in the guest.
///
/// # Errors
/// Names the accelerator that the guest bypasses.
fn check_accelerated(map: &Path) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(map).with_context(|| format!("failed to read {}", map.display()))?;
    for (name, accelerator) in REPLACED {
        if let Some(line) = text.lines().find(|line| line.contains(name)) {
            let symbol = line.split_whitespace().last().unwrap_or_default();
            bail!(
                "{accelerator} is computed in software, not by its accelerator: the guest links {symbol}"
            );
        }
    }
    Ok(())
}

/// A compiler that can build the standard library for a target it was not shipped for.
pub(crate) struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    /// `rustc --version`.
    version: String,
    /// Folder of the standard library's sources.
    std_sources: PathBuf,
    /// LLVM's linker, from the toolchain that builds this command.
    linker: PathBuf,
}

impl Compiler {
    pub(crate) fn find() -> anyhow::Result<Self> {
        let given = |name| env::var_os(name).map(PathBuf::from);
        let rustc = match given("L2_GUEST_RUSTC") {
            Some(rustc) => rustc,
            None => {
                install_packages()?;
                "/usr/bin/rustc".into()
            }
        };
        let cargo = given("L2_GUEST_CARGO").unwrap_or_else(|| "/usr/bin/cargo".into());
        let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?);
        let std_sources = sysroot.join("lib/rustlib/src/rust");
        ensure!(
            std_sources.join("library/std").exists(),
            "{} has no sources of the standard library in {}: install the package or component rust-src",
            rustc.display(),
            std_sources.display(),
        );
        let version = output(Command::new(&rustc).arg("--version"))?;
        Ok(Self { cargo, rustc, version, std_sources, linker: linker()? })
    }

    /// cargo with this compiler and `flags`, without the caller's own configuration.
    pub(crate) fn cargo(&self, root: &Path, flags: &[String]) -> Command {
        let mut cargo = Command::new(&self.cargo);
        // Proxies, registries and cargo's home say where crates come from; any other variable would change the build.
        let kept = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let build =
                text.starts_with("CARGO") || text.starts_with("RUST") || text == "LD_LIBRARY_PATH";
            if build && !kept.iter().any(|kept| text.starts_with(kept)) {
                cargo.env_remove(&name);
            }
        }
        if let Ok(this) = env::current_exe() {
            cargo.env("RUSTC_WRAPPER", this).env(AS_RUSTC, root);
        }
        for target in [RISC0_TARGET, BARE_TARGET] {
            let target = target.to_uppercase().replace('-', "_");
            cargo.env(format!("CARGO_TARGET_{target}_LINKER"), &self.linker);
        }
        cargo
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        cargo
    }
}

/// Set in a guest's build, where cargo calls this command instead of rustc.
pub(crate) const AS_RUSTC: &str = "L2_XTASK_AS_RUSTC";

/// Runs the rustc named by the first argument, with a `-C metadata` that does not depend on any folder, and without
/// line numbers in our own crates.
///
/// Cargo derives that number from the absolute path of a crate outside the workspace: of `program` and of the standard
/// library. It ends up in every symbol and so determines the order of functions.
pub(crate) fn as_rustc() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.is_empty() {
        return ExitCode::FAILURE;
    }
    let rustc = arguments.remove(0);
    let for_guest =
        arguments.iter().any(|argument| [RISC0_TARGET, BARE_TARGET].contains(&argument.as_str()));
    if let Some(at) = arguments
        .iter()
        .position(|argument| argument.starts_with("metadata="))
        .filter(|_| for_guest)
    {
        let mut hash = Sha256::new();
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION", "CARGO_CRATE_NAME"] {
            hash.update(env::var(name).unwrap_or_default());
            hash.update([0]);
        }
        for feature in arguments.iter().filter(|argument| argument.starts_with("feature=")) {
            hash.update(feature);
            hash.update([0]);
        }
        arguments[at] = format!("metadata={}", &hex::encode(hash.finalize())[..16]);
    }
    // Our own sources change most: a line number in a panic message would move the id with every comment.
    let ours = ["program", PROGRAM.package, AGGREGATE.package]
        .iter()
        .any(|ours| env::var("CARGO_PKG_NAME").is_ok_and(|name| name == *ours));
    if for_guest && ours {
        arguments.push("-Zlocation-detail=none".to_owned());
    }
    match Command::new(rustc).args(arguments).env_remove(AS_RUSTC).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Installs Debian's compiler if it is missing and this user may.
fn install_packages() -> anyhow::Result<()> {
    let present = ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library/std"];
    if present.iter().all(|path| Path::new(path).exists()) {
        return Ok(());
    }
    let packages = PACKAGES.join(" ");
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0");
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "the guests' compiler is missing: install Debian's packages {packages}, \
             or name another compiler with rust-src in L2_GUEST_RUSTC and L2_GUEST_CARGO"
        );
    }
    run(Command::new("/usr/bin/apt-get").args(["update", "--quiet"]))?;
    run(Command::new("/usr/bin/apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(PACKAGES))
}

/// rust-lld of the toolchain that compiled this command.
fn linker() -> anyhow::Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?);
    let version = output(Command::new(&rustc).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV names no host")?;
    let linker = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    ensure!(linker.exists(), "{} is missing: it comes with rustup's toolchains", linker.display());
    Ok(linker)
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    Ok(PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
        .join(".cargo"))
}

/// Where cargo builds the checkout `root`.
pub(crate) fn target_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("failed to find the target directory")?;
    Ok(metadata.target_directory.into())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("failed to write {}", path.display()))
}

pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("failed to run {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

/// What a command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
