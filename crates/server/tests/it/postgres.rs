//! A real PostgreSQL server for one test: in a temporary folder, reached through a socket there, gone with the test.

use server::DatabaseUrl;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use std::{
    fs,
    io::Write,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// `read` ends with the test, however that ends.
const RUN: &str = r#"
    programs=$1 folder=$2
    shift 2
    "$programs/initdb" --no-sync --auth=trust --username=prover --encoding=UTF8 --locale=C -D "$folder/data" >"$folder/log" 2>&1 || exit
    "$programs/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c shared_buffers=16MB "$@" >>"$folder/log" 2>&1 &
    read -r _
    kill -QUIT $!
    wait
"#;

/// A running PostgreSQL server. Durable as an operator's: `fsync` is on.
pub(crate) struct Postgres {
    folder: TempDir,
    port: String,
    shell: Child,
}

impl Postgres {
    /// Starts a server with an empty database, or says in one line that PostgreSQL is not installed.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(tempfile::tempdir().unwrap(), &[]).await
    }

    /// The same, in this folder and with these settings.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) async fn start_with(folder: TempDir, settings: &[String]) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped: PostgreSQL is not installed (make setup)");
            return None;
        };
        let mut shell = Command::new("sh");
        // It does not run as root; Debian's package comes with a user.
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
        {
            let id = Command::new("id").args(["-u", "postgres"]).output().unwrap().stdout;
            let uid =
                String::from_utf8(id).unwrap().trim().parse().expect("there is a user postgres");
            for file in fs::read_dir(folder.path()).unwrap() {
                chown(file.unwrap().path(), Some(uid), None).unwrap();
            }
            chown(folder.path(), Some(uid), None).unwrap();
            shell.uid(uid);
        }
        let shell = shell
            .args(["-c", RUN, "sh"])
            .args([&programs, folder.path()])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let port = settings.iter().find_map(|setting| setting.strip_prefix("port="));
        let this = Self { folder, port: port.unwrap_or("5432").to_owned(), shell };
        for _ in 0..1_500 {
            if this.connect().await.is_ok() {
                return Some(this);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "PostgreSQL did not start: {:?}",
            fs::read_to_string(this.folder.path().join("log"))
        );
    }

    /// The address of its database.
    pub(crate) fn url(&self) -> DatabaseUrl {
        DatabaseUrl::new(self.address())
    }

    /// A connection of the test's own.
    pub(crate) async fn admin(&self) -> PgConnection {
        self.connect().await.unwrap()
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.address().parse::<PgConnectOptions>()?.connect().await
    }

    fn address(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://prover@localhost/postgres?host={folder}&port={}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.shell.stdin.take().map(|mut stdin| stdin.write_all(b"\n")));
        drop(self.shell.wait());
    }
}

/// The folder of `initdb` and `postgres`, which Debian keeps out of the path.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |folder: &PathBuf| {
        ["initdb", "postgres"].iter().all(|name| Path::is_file(&folder.join(name)))
    };
    debian.filter(has).max().or_else(|| std::env::split_paths(&path).find(has))
}
