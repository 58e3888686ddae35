//! The schema of a database: which one it has, which one this version needs, and who brings it there.
//!
//! * A database that only one server uses is brought to this version's schema by that server, when it starts. One that
//!   several share is brought there by an operator, with `l2-prover migrate`, while servers of the version before run on.
//! * So migrations take nothing away from servers of the version before. Each says in the table `compatibility` what the
//!   oldest schema is whose servers still work.
//! * A later schema than this version's is used as it is, if that table allows it.

use super::{DatabaseError, Result};
use serde::Serialize;
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, Row,
    migrate::{AppliedMigration, Migrate, MigrateError, Migrator},
};
use std::{borrow::Cow, cmp::Ordering, time::Duration};

/// SQLite's migrations.
pub(super) static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");

/// PostgreSQL's migrations.
pub(super) static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// What is done about a database that has an earlier schema than this version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// It is brought to this version's, whoever uses it.
    Migrated,
    /// It gets this version's if it has none yet. An earlier one is refused.
    New,
    /// It is refused.
    AsItIs,
}

/// What a database's schema is, beside what this version needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaReport {
    /// The database: a file, or its name and host.
    pub database: String,
    /// Its schema; 0 if it has none yet.
    pub found: i64,
    /// The schema of this version.
    pub needed: i64,
    /// The migrations between them, in order.
    pub pending: Vec<String>,
}

impl SchemaReport {
    pub(super) async fn read<C>(name: &str, ours: &Migrator, connection: &mut C) -> Result<Self>
    where
        C: Migrate,
    {
        let found = found(name, ours, connection).await?;
        let pending = ours.iter().filter(|migration| migration.version > found);
        let pending =
            pending.map(|migration| format!("{} {}", migration.version, migration.description));
        Ok(Self {
            database: name.to_owned(),
            found,
            needed: latest(ours),
            pending: pending.collect(),
        })
    }
}

fn latest(ours: &Migrator) -> i64 {
    ours.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The migrations that were applied. Looking changes nothing: there is no table of them before the first.
async fn applied<C: Migrate>(
    ours: &Migrator,
    connection: &mut C,
) -> Result<Vec<AppliedMigration>, MigrateError> {
    match connection.list_applied_migrations(&ours.table_name).await {
        Err(MigrateError::Execute(error)) if is_undefined_table(&error) => Ok(Vec::new()),
        applied => applied,
    }
}

/// The latest migration that was applied; 0 if there is none.
async fn found<C: Migrate>(name: &str, ours: &Migrator, connection: &mut C) -> Result<i64> {
    let other = |error: MigrateError| DatabaseError::Version {
        database: name.into(),
        detail: error.to_string(),
    };
    let applied = applied(ours, connection).await.map_err(other)?;
    for applied in &applied {
        let ours = ours.iter().find(|migration| migration.version == applied.version);
        if ours.is_some_and(|ours| ours.checksum != applied.checksum) {
            return Err(other(MigrateError::VersionMismatch(applied.version)));
        }
    }
    Ok(applied.iter().map(|migration| migration.version).max().unwrap_or_default())
}

/// So often a migration is begun anew that others were in the way of.
const ATTEMPTS: u32 = 60;

/// Runs PostgreSQL's migrations, while servers may be at work. Those that migrate together take turns: the migrator holds a lock.
///
/// Indexes on tables that are there come first, while others go on writing. A migration waits a second at most for the locks that it
/// needs, since servers wait behind it. If that, or a deadlock with a server, ends it, nothing has changed, and it begins anew.
pub(super) async fn migrate_shared(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let mut attempt = 1;
    loop {
        let migrated = match index_ahead(connection).await {
            Ok(()) => {
                connection.execute("SET lock_timeout = '1s'").await?;
                POSTGRES.run(&mut *connection).await
            }
            Err(error) => Err(error),
        };
        let code = match &migrated {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                code(error)
            }
            _ => return migrated,
        };
        let in_the_way = matches!(code.as_deref(), Some(LOCK_NOT_AVAILABLE | DEADLOCK_DETECTED));
        if !in_the_way || attempt == ATTEMPTS {
            return migrated;
        }
        attempt += 1;
        tracing::warn!(
            code = "migration_waits",
            "a transaction of somebody else is in the way of the migration; trying again. A dump, or a reader that was left open, should end"
        );
        // Servers wait behind each attempt, and work in between.
        tokio::time::sleep(Duration::from_millis(rand::random_range(3_000..5_000))).await;
    }
}

const LOCK_NOT_AVAILABLE: &str = "55P03";
const DEADLOCK_DETECTED: &str = "40P01";
const DUPLICATE_TABLE: &str = "42P07";
const UNDEFINED_TABLE: &str = "42P01";
const UNDEFINED_COLUMN: &str = "42703";

fn is_undefined_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some(UNDEFINED_TABLE) || error.message().starts_with("no such table")
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// How a migration begins a line with an index that can be made ahead of it.
const INDEX: &str = "CREATE INDEX IF NOT EXISTS ";

/// Makes the indexes of migrations to come, one after the other and without a lock that writers wait for. Those on what a migration
/// itself makes are left to it.
async fn index_ahead(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let applied = applied(&POSTGRES, connection).await?;
    let Some(found) = applied.iter().map(|migration| migration.version).max() else {
        return Ok(());
    };
    // Whoever makes an index without locks waits for every transaction that goes on, and nobody waits behind it.
    connection.execute("SET lock_timeout = 0").await?;
    for migration in POSTGRES.iter().filter(|migration| migration.version > found) {
        for index in migration.sql.as_str().lines().filter_map(|line| line.strip_prefix(INDEX)) {
            let name = index.split(' ').next().unwrap_or_default();
            // What is left of an attempt that was cut short is of no use.
            let invalid = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)",
            );
            if invalid.bind(name).fetch_one(&mut *connection).await? {
                let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
                connection.execute(AssertSqlSafe(drop)).await?;
            }
            let create = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {index}");
            match connection.execute(AssertSqlSafe(create)).await {
                Err(error)
                    if !matches!(
                        code(&error).as_deref(),
                        Some(UNDEFINED_TABLE | UNDEFINED_COLUMN | DUPLICATE_TABLE)
                    ) =>
                {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// What the migrator did, as an error of this crate.
pub(super) fn migrated(
    name: &str,
    result: Result<(), MigrateError>,
    fail: impl Fn(sqlx::Error) -> DatabaseError,
) -> Result<()> {
    result.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fail(error),
        other => DatabaseError::Version { database: name.into(), detail: other.to_string() },
    })
}

/// Whether the database has to be migrated, as `schema` says, before this version can work with it.
pub(super) async fn pending<C>(
    name: &str,
    ours: &Migrator,
    schema: Schema,
    connection: &mut C,
    fail: impl Fn(sqlx::Error) -> DatabaseError,
) -> Result<bool>
where
    C: Connection + Migrate,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    for<'r> i64: sqlx::Decode<'r, C::Database> + sqlx::Type<C::Database>,
    for<'i> &'i str: sqlx::ColumnIndex<<C::Database as sqlx::Database>::Row>,
{
    let (found, latest) = (found(name, ours, connection).await?, latest(ours));
    match found.cmp(&latest) {
        Ordering::Equal => Ok(false),
        Ordering::Greater => {
            let oldest = connection.fetch_optional("SELECT oldest FROM compatibility").await;
            let oldest = oldest.map_err(&fail)?.map(|row| row.try_get::<i64, _>("oldest"));
            match oldest.transpose().map_err(&fail)? {
                Some(oldest) if oldest <= latest => Ok(false),
                _ => Err(DatabaseError::Version {
                    database: name.into(),
                    detail: format!(
                        "its schema is {found}, and this version knows those up to {latest}"
                    ),
                }),
            }
        }
        Ordering::Less if schema == Schema::Migrated || (schema == Schema::New && found == 0) => {
            Ok(true)
        }
        Ordering::Less => {
            Err(DatabaseError::Outdated { database: name.into(), found, needed: latest })
        }
    }
}
