//! A PostgreSQL server that may be killed. Durable as an operator's: `fsync` is on.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::PATIENCE;

pub(super) struct Database {
    folder: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<u32>,
    server: Child,
}

impl Database {
    /// Starts a server with an empty database, or says in one line that PostgreSQL is not installed.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(super) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped: PostgreSQL is not installed (make setup)");
            return None;
        };
        let folder = tempfile::tempdir().expect("temporary folder");
        // It does not run as root; Debian's package comes with a user.
        let root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        let owner = root.then(|| {
            let id = Command::new("id").args(["-u", "postgres"]).output().expect("there is an id");
            let id = String::from_utf8(id.stdout).expect("a number");
            id.trim().parse().expect("there is a user postgres")
        });
        chown(folder.path(), owner, None).expect("root may do that");
        let mut initdb = command(&programs, "initdb", owner, folder.path());
        initdb.args(["--no-sync", "--auth=trust", "--username=prover", "--locale=C", "-D", "data"]);
        let made = initdb.output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = launch(&programs, owner, folder.path());
        let mut this = Self { folder, programs, owner, server };
        this.wait();
        Some(this)
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://prover@localhost/postgres?host={}", self.folder.path().display())
    }

    /// `kill -9`; the processes it had started end by themselves.
    pub(super) fn kill(&mut self) {
        self.server.kill().expect("it can be killed");
        self.server.wait().expect("it is gone");
    }

    /// Starts it again, as soon as what the last one left lets it.
    pub(super) fn restart(&mut self) {
        self.server = launch(&self.programs, self.owner, self.folder.path());
        self.wait();
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(self.folder.path().join(".s.PGSQL.5432")).is_err() {
            assert!(Instant::now() < deadline, "PostgreSQL did not start");
            std::thread::sleep(Duration::from_millis(50));
            if self.server.try_wait().expect("it is our child").is_some() {
                self.server = launch(&self.programs, self.owner, self.folder.path());
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn launch(programs: &Path, owner: Option<u32>, folder: &Path) -> Child {
    let mut server = command(programs, "postgres", owner, folder);
    server.args(["-D", "data", "-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-k"]);
    server.arg(folder).spawn().expect("postgres runs")
}

fn command(programs: &Path, name: &str, owner: Option<u32>, folder: &Path) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(owner) = owner {
        command.uid(owner);
    }
    command
}

/// The folder of `initdb` and `postgres`, which Debian keeps out of the path.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |folder: &PathBuf| {
        ["initdb", "postgres"].iter().all(|name| Path::is_file(&folder.join(name)))
    };
    debian.filter(has).max().or_else(|| std::env::split_paths(&path).find(has))
}
