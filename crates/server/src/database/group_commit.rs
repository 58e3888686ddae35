//! Group commit: transactions that wait for one SQLite database are made durable together.
//!
//! * Each is a savepoint of one larger transaction, and runs alone: it sees what those before it did, and undoes only its own.
//! * It has happened when [`Grouped::commit`] returns: then the larger one is on disk, with all that is in it.
//! * A caller that goes away in the middle leaves nothing half done: what must not be cut short runs in a task of its own.
//! * Whoever commits first queues behind the transactions that wait already, and then writes all of them to disk with one
//!   `fsync`. A lone transaction waits for nobody.

use sqlx::{Any, AnyConnection, AnyPool, Executor, pool::PoolConnection};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, watch},
};

/// So many transactions at most are made durable together: the first of them waits for the last.
const MOST: u32 = 256;

/// How long a transaction waits for its turn.
const PATIENCE: Duration = Duration::from_secs(15);

/// What became of a larger transaction.
type Told = Option<Result<(), Arc<sqlx::Error>>>;

/// The one connection that writes. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pool: AnyPool,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    connection: Option<PoolConnection<Any>>,
    /// The larger transaction, if one is open.
    tell: Option<watch::Sender<Told>>,
    /// Transactions in it.
    size: u32,
    /// Somebody will commit it.
    finishing: bool,
    /// The last savepoint was left without a word: it is to be undone.
    undo: bool,
}

/// A transaction. Dropping it undoes what was done in it.
#[derive(Debug)]
pub struct Grouped {
    group: Group,
    open: Option<OwnedMutexGuard<Open>>,
}

impl Group {
    /// Writes through the only connection of `pool`.
    pub(super) fn new(pool: AnyPool) -> Self {
        Self { pool, open: Arc::default() }
    }

    /// Begins a transaction, when those that asked before have ended.
    pub(super) async fn begin(&self) -> sqlx::Result<Grouped> {
        let turn = tokio::time::timeout(PATIENCE, self.open.clone().lock_owned()).await;
        let mut open = turn.map_err(|_elapsed| sqlx::Error::PoolTimedOut)?;
        if open.undo {
            let tidy = tokio::spawn(async move {
                open.tidy().await;
                open
            });
            open = tidy.await.map_err(|_panic| sqlx::Error::WorkerCrashed)?;
        }
        if open.connection.is_none() {
            open.connection = Some(self.pool.acquire().await?);
        }
        if open.tell.is_none() {
            if open.run("BEGIN IMMEDIATE").await.is_err() {
                // A caller that went away may have begun one.
                let _none = open.run("ROLLBACK").await;
                open.run("BEGIN IMMEDIATE").await?;
            }
            (open.tell, open.size, open.finishing) = (Some(watch::Sender::new(None)), 0, false);
        }
        let mut begun = Grouped { group: self.clone(), open: Some(open) };
        let open = begun.open.as_mut().expect("it was just put there");
        open.run("SAVEPOINT one").await?;
        open.size += 1;
        Ok(begun)
    }

    /// Commits what is left, and closes the connection.
    pub(super) async fn close(&self) {
        let mut open = self.open.lock().await;
        open.finish().await;
        open.connection = None;
        drop(open);
        self.pool.close().await;
    }

    /// Commits the larger transaction as soon as those that wait already are in it.
    async fn finish(self) {
        self.open.lock().await.finish().await;
    }
}

impl Open {
    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        connection.execute(sql).await.map(drop)
    }

    /// Undoes what the last transaction left.
    async fn tidy(&mut self) {
        if std::mem::take(&mut self.undo) {
            let undone = async {
                self.run("ROLLBACK TO one").await?;
                self.run("RELEASE one").await
            };
            // Either its caller went away before it began, or SQLite undid the larger transaction too, as a full disk makes
            // it do. Then, and only then, another can begin.
            if let Err(error) = undone.await
                && self.run("BEGIN").await.is_ok()
            {
                self.end(Err(error)).await;
            }
        }
    }

    async fn finish(&mut self) {
        self.tidy().await;
        if self.tell.is_some() {
            let done = self.run("COMMIT").await;
            self.end(done).await;
        }
    }

    /// Tells everybody in the larger transaction how it ended.
    async fn end(&mut self, done: sqlx::Result<()>) {
        if done.is_err() {
            // It may be gone already.
            let _gone = self.run("ROLLBACK").await;
        }
        if let Some(tell) = self.tell.take() {
            tell.send_replace(Some(done.map_err(Arc::new)));
        }
    }
}

impl Grouped {
    /// Makes it durable.
    ///
    /// # Errors
    /// What the database says. Then it may have happened or not.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let Some(open) = self.open.as_mut() else { return Err(sqlx::Error::PoolClosed) };
        open.run("RELEASE one").await?;
        let Some(tell) = &open.tell else { return Err(sqlx::Error::PoolClosed) };
        let mut told = tell.subscribe();
        let mut open = self.open.take().expect("it was there");
        if open.size >= MOST {
            tokio::spawn(async move { open.finish().await });
        } else {
            if !std::mem::replace(&mut open.finishing, true) {
                tokio::spawn(self.group.clone().finish());
            }
            drop(open);
        }
        let told = told.wait_for(Option::is_some).await.map_err(|_gone| sqlx::Error::PoolClosed)?;
        match &*told {
            Some(Err(error)) => Err(sqlx::Error::AnyDriverError(Box::new(error.clone()))),
            _ => Ok(()),
        }
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        open.undo = true;
        if !std::mem::replace(&mut open.finishing, true)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(self.group.clone().finish());
        }
    }
}

impl std::ops::Deref for Grouped {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.open.as_ref().and_then(|open| open.connection.as_ref()).expect("a transaction has one")
    }
}

impl std::ops::DerefMut for Grouped {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.open.as_mut().and_then(|open| open.connection.as_mut()).expect("a transaction has one")
    }
}
