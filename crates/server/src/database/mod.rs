//! The database under the job store: one SQLite file, or a PostgreSQL database that several servers share.
//!
//! * What is committed is durable: SQLite runs with `synchronous=FULL`, and a PostgreSQL that promises less is refused.
//! * One SQL text serves both. Where they differ, the difference is a method here: how a transaction begins, how rows are
//!   locked, whose clock counts.
//! * A password never leaves the address: messages name the database and its host.

pub(crate) mod columns;
mod error;
mod group_commit;
mod schema;
mod url;

pub use error::DatabaseError;
pub use schema::{Schema, SchemaReport};
pub use url::DatabaseUrl;

use crate::{
    clock::{Clock, Timestamp, millis, wall},
    jobs::state::LONGEST_REST,
};
use columns::{Col, Column};
use group_commit::{Group, Grouped};
use protocol::ClientId;
use sqlx::{
    Any, AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection,
    Row, SqliteConnection, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, AnyRow},
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    ops::{Deref, DerefMut},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Marks a database as ours, in SQLite's header: "l2pr".
const APPLICATION_ID: i32 = 0x6c32_7072;

/// Marks our locks among PostgreSQL's advisory locks: "l2pr".
pub const LOCKS: i32 = APPLICATION_ID;

/// Marks the locks that are held on a client for one transaction.
const CLIENT_LOCKS: i32 = LOCKS + 1;

/// Where servers on one PostgreSQL database tell each other what happened.
pub const CHANNEL: &str = "l2_prover";

/// Settings of every SQLite connection.
const SQLITE_SESSION: &str =
    "PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL";

/// Settings of every PostgreSQL connection: a stalled server holds up the others for seconds, not for ever, and locks of
/// a machine that vanished are freed.
pub const POSTGRES_SESSION: &str = "SET application_name = 'l2-prover'; SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '10s'; SET default_transaction_isolation = 'read committed';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// A database that knows times so far in the future has seen a wrong clock.
const CLOCK_AHEAD: Duration = Duration::from_secs(60);

/// SQLite databases of more bytes are looked at when the server runs already.
const LARGE: i64 = 256 << 20;

/// A transaction. Dropping it undoes what was done in it.
#[derive(Debug)]
pub enum Tx {
    /// One of several that SQLite makes durable together.
    Grouped(Grouped),
    /// One by itself.
    Alone(Transaction<'static, Any>),
}

impl Tx {
    /// Makes it durable.
    ///
    /// # Errors
    /// What the database says. Then it may have happened or not.
    pub async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Grouped(tx) => tx.commit().await,
            Self::Alone(tx) => tx.commit().await,
        }
    }
}

impl Deref for Tx {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Grouped(tx) => tx,
            Self::Alone(tx) => tx,
        }
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Grouped(tx) => tx,
            Self::Alone(tx) => tx,
        }
    }
}

type Result<T, E = DatabaseError> = std::result::Result<T, E>;

/// An open database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Database {
    name: Arc<str>,
    kind: Kind,
    readers: AnyPool,
    /// Transactions that may write, begun so far.
    writes: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
enum Kind {
    Sqlite(Clock, Group),
    Postgres(DatabaseUrl),
}

impl Database {
    /// Opens the file at `path`, which is made if it is missing. `schema` says what is done about an earlier schema.
    ///
    /// # Errors
    /// [`DatabaseError::Foreign`], [`DatabaseError::Corrupt`], [`DatabaseError::Version`], [`DatabaseError::Outdated`] or
    /// [`DatabaseError::Failed`].
    pub async fn sqlite(path: &Path, schema: Schema) -> Result<Self> {
        let name: Arc<str> = path.display().to_string().into();
        let fail = |error| wrap_sqlite(&name, error);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(10));
        claim(&name, &options).await?;
        let options =
            options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let mut connection = options.connect().await.map_err(fail)?;
        if schema::pending(&name, &schema::SQLITE, schema, &mut connection, fail).await? {
            schema::migrated(&name, schema::SQLITE.run(&mut connection).await, fail)?;
        }
        connection.close().await.map_err(fail)?;

        // As a URL, in which the driver escapes everything but the percent sign.
        let file = path.to_string_lossy().replace('%', "%25");
        let address = AnyConnectOptions::from_url(&options.filename(file).to_url_lossy());
        let address = address.map_err(fail)?;
        let pool = |size| pool(size, SQLITE_SESSION).connect_with(address.clone());
        // One writer, so that transactions queue here and not on SQLite's lock.
        let (writer, readers) = (pool(1).await.map_err(fail)?, pool(2).await.map_err(fail)?);
        // A wall clock that was set back while no server ran must not hold up what was due.
        let latest = "SELECT max(
            coalesce((SELECT max(last_seen) FROM clients), 0),
            coalesce((SELECT created_at FROM batches ORDER BY id DESC LIMIT 1), 0),
            coalesce((SELECT max(rests_until) FROM clients), 0) - $1,
            coalesce((SELECT max(not_before) FROM jobs WHERE state = 'ready'), 0) - $1)";
        let latest = sqlx::query_scalar(latest).bind(millis(LONGEST_REST).cast_signed());
        let latest: i64 = latest.fetch_one(&readers).await.map_err(fail)?;
        let latest = Timestamp(latest.cast_unsigned());
        let ahead = latest.after(wall());
        if ahead > CLOCK_AHEAD {
            tracing::error!(
                code = "clock_ahead",
                database = &*name,
                seconds = ahead.as_secs(),
                "the database knows times in the future: the clock was ahead once, or is behind now. Correct the clock, stop the server and run `l2-prover correct-clock`"
            );
        }
        let clock = Clock::start(latest);
        Ok(Self {
            name: name.clone(),
            kind: Kind::Sqlite(clock, Group::new(writer)),
            readers,
            writes: Arc::default(),
        })
    }

    /// Connects to a PostgreSQL database. `schema` says what is done about an earlier schema.
    ///
    /// # Errors
    /// [`DatabaseError::Unsafe`] if it may lose what is committed, or as [`sqlite`](Self::sqlite).
    pub async fn postgres(url: &DatabaseUrl, schema: Schema) -> Result<Self> {
        let name: Arc<str> = url.to_string().into();
        let fail = |error| wrap_postgres(&name, error);
        let mut connection = ours(url, &name).await?;
        for setting in ["fsync", "synchronous_commit"] {
            let value = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
            let value: String = value.fetch_one(&mut connection).await.map_err(fail)?;
            if value == "off" {
                return Err(DatabaseError::Unsafe { database: name.to_string(), setting });
            }
        }
        if schema::pending(&name, &schema::POSTGRES, schema, &mut connection, fail).await? {
            schema::migrated(&name, schema::migrate_shared(&mut connection).await, fail)?;
        }
        connection.close().await.map_err(fail)?;
        let address = url.expose().parse().map_err(fail)?;
        let pool = pool(16, POSTGRES_SESSION).connect_with(address).await.map_err(fail)?;
        Ok(Self {
            name: name.clone(),
            kind: Kind::Postgres(url.clone()),
            readers: pool,
            writes: Arc::default(),
        })
    }

    /// The schema of the file at `path`, beside this version's. Nothing is changed.
    ///
    /// # Errors
    /// As [`sqlite`](Self::sqlite).
    pub async fn sqlite_schema(path: &Path) -> Result<SchemaReport> {
        let name = path.display().to_string();
        let options = SqliteConnectOptions::new().filename(path);
        claim(&name, &options).await?;
        let mut connection = options.connect().await.map_err(|error| wrap_sqlite(&name, error))?;
        SchemaReport::read(&name, &schema::SQLITE, &mut connection).await
    }

    /// The schema of a PostgreSQL database, beside this version's. Nothing is changed.
    ///
    /// # Errors
    /// As [`postgres`](Self::postgres).
    pub async fn postgres_schema(url: &DatabaseUrl) -> Result<SchemaReport> {
        let name = url.to_string();
        let mut connection = ours(url, &name).await?;
        SchemaReport::read(&name, &schema::POSTGRES, &mut connection).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        if let Kind::Sqlite(_, group) = &self.kind {
            group.close().await;
        }
        self.readers.close().await;
    }

    /// The address, if other servers may use the database too.
    pub fn shared(&self) -> Option<&DatabaseUrl> {
        match &self.kind {
            Kind::Sqlite(..) => None,
            Kind::Postgres(url) => Some(url),
        }
    }

    /// Where to read from without a transaction.
    pub fn readers(&self) -> &AnyPool {
        &self.readers
    }

    /// How many transactions that may write were begun here so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// The time that counts: several servers go by their database's clock.
    ///
    /// # Errors
    /// [`DatabaseError::Failed`] if it cannot be asked.
    pub async fn now(&self) -> Result<Timestamp> {
        match &self.kind {
            Kind::Sqlite(clock, _) => Ok(clock.now()),
            Kind::Postgres(_) => {
                let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT";
                let now: i64 = self.ok(sqlx::query_scalar(now).fetch_one(&self.readers).await)?;
                Ok(Timestamp(now.cast_unsigned()))
            }
        }
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// [`DatabaseError::Failed`].
    pub async fn begin(&self) -> Result<Tx> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        match &self.kind {
            Kind::Sqlite(_, group) => self.ok(group.begin().await).map(Tx::Grouped),
            Kind::Postgres(_) => self.ok(self.readers.begin().await).map(Tx::Alone),
        }
    }

    /// The same for a request of `client`: its other requests take turns with it, until the transaction ends.
    ///
    /// # Errors
    /// [`DatabaseError::Failed`].
    pub async fn begin_for(&self, client: ClientId) -> Result<Tx> {
        match &self.kind {
            Kind::Sqlite(..) => self.begin().await,
            Kind::Postgres(_) => {
                self.writes.fetch_add(1, Ordering::Relaxed);
                let [a, b, c, d, ..] = *client.as_bytes();
                let client = i32::from_be_bytes([a, b, c, d]);
                // One round trip for both.
                let begin =
                    format!("BEGIN; SELECT pg_advisory_xact_lock({CLIENT_LOCKS}, {client})");
                self.ok(self.readers.begin_with(AssertSqlSafe(begin)).await).map(Tx::Alone)
            }
        }
    }

    /// Begins a transaction that sees one moment and writes nothing.
    ///
    /// # Errors
    /// [`DatabaseError::Failed`].
    pub async fn begin_reading(&self) -> Result<Tx> {
        let begin = match self.kind {
            Kind::Sqlite(..) => "BEGIN",
            Kind::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.ok(self.readers.begin_with(begin).await).map(Tx::Alone)
    }

    /// `select`, of rows that nobody else changes until the transaction ends. Waits for others that change them.
    pub fn locking(&self, select: &str) -> AssertSqlSafe<String> {
        self.with_lock(select, "FOR UPDATE")
    }

    /// The same, leaving out rows that others are changing.
    pub fn skipping_locked(&self, select: &str) -> AssertSqlSafe<String> {
        self.with_lock(select, "FOR UPDATE SKIP LOCKED")
    }

    fn with_lock(&self, select: &str, lock: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(match self.kind {
            // Whoever writes to SQLite is alone.
            Kind::Sqlite(..) => select.to_owned(),
            Kind::Postgres(_) => format!("{select} {lock}"),
        })
    }

    /// Lets those who add batches take turns until the transaction ends.
    ///
    /// # Errors
    /// [`DatabaseError::Failed`].
    pub async fn lock_chain(&self, tx: &mut Tx) -> Result<()> {
        if self.shared().is_some() {
            let lock = sqlx::query("LOCK TABLE batches IN SHARE ROW EXCLUSIVE MODE");
            self.ok(lock.execute(&mut **tx).await)?;
        }
        Ok(())
    }

    /// Looks at a SQLite database that was too large to be looked at when it was opened.
    ///
    /// # Errors
    /// [`DatabaseError::Corrupt`] if it is damaged, or [`DatabaseError::Failed`].
    pub async fn check_large(&self) -> Result<()> {
        let Kind::Sqlite(..) = self.kind else { return Ok(()) };
        let fail = |error| wrap_sqlite(&self.name, error);
        // A connection of its own: it takes a while.
        let options = SqliteConnectOptions::new().filename(&*self.name);
        let mut connection: SqliteConnection = options.connect().await.map_err(fail)?;
        if !large(&mut connection).await.map_err(fail)? {
            return Ok(());
        }
        match quick_check(&mut connection).await.map_err(fail)? {
            ok if ok == "ok" => Ok(()),
            detail => Err(DatabaseError::Corrupt { database: self.name.to_string(), detail }),
        }
    }

    /// How far the clock that counts is ahead of the wall clock, if it is by more than a minute.
    pub fn clock_ahead(&self) -> Option<Duration> {
        let Kind::Sqlite(clock, _) = &self.kind else { return None };
        Some(clock.now().after(wall())).filter(|ahead| *ahead > CLOCK_AHEAD)
    }

    /// Writes what the database holds at this moment into a new file, for a backup. Only SQLite can.
    ///
    /// # Errors
    /// [`DatabaseError::Failed`], also of PostgreSQL.
    pub async fn copy(&self, to: &Path) -> Result<()> {
        let copy = sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned());
        self.ok(copy.execute(&self.readers).await)?;
        Ok(())
    }

    /// Tells all servers on this database, if there are several, as soon as the transaction is committed.
    ///
    /// # Errors
    /// [`DatabaseError::Failed`].
    pub async fn tell(&self, tx: &mut Tx, news: Notification) -> Result<()> {
        if self.shared().is_some() {
            let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(news.name());
            self.ok(notify.execute(&mut **tx).await)?;
        }
        Ok(())
    }

    /// Says of a failure which database failed.
    ///
    /// # Errors
    /// [`DatabaseError::Corrupt`] or [`DatabaseError::Failed`].
    pub fn ok<T>(&self, result: sqlx::Result<T>) -> Result<T> {
        result.map_err(|error| match self.kind {
            Kind::Sqlite(..) => wrap_sqlite(&self.name, error),
            Kind::Postgres(_) => wrap_postgres(&self.name, error),
        })
    }

    /// What stands in a column.
    ///
    /// # Errors
    /// [`DatabaseError::Corrupt`] if that is nothing that this program writes there.
    pub(crate) fn get<T: Column>(&self, row: &AnyRow, column: &str) -> Result<T> {
        let found = row.try_get::<Col<T>, _>(column);
        found.map(|Col(value)| value).map_err(|error| self.damaged(error))
    }

    /// The error of rows that this program cannot have written.
    pub fn damaged(&self, detail: impl ToString) -> DatabaseError {
        DatabaseError::Corrupt { database: self.name.to_string(), detail: detail.to_string() }
    }
}

/// What servers on one database tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// A job became ready.
    Ready,
    /// Ready jobs went with a reorg. That one was leased is not told: PostgreSQL commits those who tell something one after
    /// the other, each with its own `fsync`, and who follows the node looks again soon anyway.
    Taken,
}

impl Notification {
    /// As it is sent.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Taken => "taken",
        }
    }
}

/// A pool whose connections begin with `session`.
fn pool(size: u32, session: &'static str) -> AnyPoolOptions {
    sqlx::any::install_default_drivers();
    AnyPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(15))
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(session).await.map(drop) })
        })
}

/// Makes sure that the file is ours, or new, before anything is written to it.
async fn claim(name: &str, options: &SqliteConnectOptions) -> Result<()> {
    let fail = |error| wrap_sqlite(name, error);
    let mut connection: SqliteConnection = options.connect().await.map_err(fail)?;
    let id: i32 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut connection)
        .await
        .map_err(fail)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
        .fetch_one(&mut connection)
        .await
        .map_err(fail)?;
    if id != APPLICATION_ID {
        if tables != 0 || id != 0 {
            return Err(DatabaseError::Foreign(name.into()));
        }
        sqlx::query(AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}")))
            .execute(&mut connection)
            .await
            .map_err(fail)?;
    }
    if !large(&mut connection).await.map_err(fail)? {
        let check = quick_check(&mut connection).await.map_err(fail)?;
        if check != "ok" {
            return Err(DatabaseError::Corrupt { database: name.into(), detail: check });
        }
    }
    connection.close().await.map_err(fail)
}

/// Whether a SQLite database has so many bytes that looking at all of them would hold up a start.
async fn large<'c>(connection: impl Executor<'c, Database = sqlx::Sqlite>) -> sqlx::Result<bool> {
    let bytes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = sqlx::query_scalar(bytes).fetch_one(connection).await?;
    Ok(bytes > LARGE)
}

/// What SQLite says of the whole file: `ok`, or the first thing that is wrong.
async fn quick_check<'c>(
    connection: impl Executor<'c, Database = sqlx::Sqlite>,
) -> sqlx::Result<String> {
    sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await
}

/// A connection to a PostgreSQL database that is ours, or empty.
async fn ours(url: &DatabaseUrl, name: &str) -> Result<PgConnection> {
    let fail = |error| wrap_postgres(name, error);
    let options: PgConnectOptions = url.expose().parse().map_err(fail)?;
    let mut connection = options.connect().await.map_err(fail)?;
    let foreign = sqlx::query_scalar(
        "SELECT to_regclass('_sqlx_migrations') IS NULL AND EXISTS
         (SELECT FROM information_schema.tables WHERE table_schema = current_schema())",
    );
    if foreign.fetch_one(&mut connection).await.map_err(fail)? {
        return Err(DatabaseError::Foreign(name.to_owned()));
    }
    Ok(connection)
}

fn wrap_sqlite(name: &str, source: sqlx::Error) -> DatabaseError {
    // SQLITE_CORRUPT and SQLITE_NOTADB; extended codes carry them in the low byte.
    match code(&source).and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
        Some(11 | 26) => {
            DatabaseError::Corrupt { database: name.into(), detail: source.to_string() }
        }
        _ => DatabaseError::Failed { database: name.into(), source },
    }
}

fn wrap_postgres(name: &str, source: sqlx::Error) -> DatabaseError {
    // data_corrupted and index_corrupted.
    match code(&source).as_deref() {
        Some("XX001" | "XX002") => {
            DatabaseError::Corrupt { database: name.into(), detail: source.to_string() }
        }
        _ => DatabaseError::Failed { database: name.into(), source },
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
