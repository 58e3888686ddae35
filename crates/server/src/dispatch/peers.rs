//! The other servers on the same PostgreSQL database: who follows the node, and who hears of what.
//!
//! * One connection of its own holds two of PostgreSQL's advisory locks, which go with the process or its machine.
//! * Whoever holds `LEADER` follows the node. Two that believe so for a moment do no harm: batches are enqueued one after
//!   the other, and the same batch once.
//! * Every server holds `MEMBER` together with the others. Who can have it alone is the only one, so nobody has heard
//!   heartbeats before it.

use super::Jobs;
use crate::database::{CHANNEL, DatabaseUrl, LOCKS, Notification, POSTGRES_SESSION};
use sqlx::{Executor, postgres::PgListener};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The lock of whoever follows the node.
const LEADER: i32 = 1;

/// The lock that all servers share.
const MEMBER: i32 = 2;

/// How often a server tries to become the leader, and makes sure that its connection lives.
const PULSE: Duration = Duration::from_secs(1);

/// A connection that answers more slowly is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// This server among those on the same database.
#[derive(Debug)]
pub struct Peers {
    url: DatabaseUrl,
    listener: PgListener,
    alone: bool,
}

impl Peers {
    /// Joins the servers on the database at `url`.
    ///
    /// # Errors
    /// What the database says.
    pub async fn join(url: &DatabaseUrl) -> sqlx::Result<Self> {
        let mut listener = PgListener::connect(url.expose()).await?;
        // A lost connection is a lost lock: it must be seen, not mended.
        listener.eager_reconnect(false);
        listener.execute(POSTGRES_SESSION).await?;
        listener.listen(CHANNEL).await?;
        let alone = lock(&mut listener, "SELECT pg_try_advisory_lock($1, $2)", MEMBER).await?;
        if !alone {
            // Another that is alone for now holds it for as long as its start takes.
            sqlx::query("SET lock_timeout = '60s'").execute(&mut listener).await?;
            let share = sqlx::query("SELECT pg_advisory_lock_shared($1, $2)");
            share.bind(LOCKS).bind(MEMBER).execute(&mut listener).await?;
        }
        Ok(Self { url: url.clone(), listener, alone })
    }

    /// Whether no other server runs. None starts until [`welcome`](Self::welcome).
    pub fn alone(&self) -> bool {
        self.alone
    }

    /// Lets others join.
    ///
    /// # Errors
    /// What the database says.
    pub async fn welcome(&mut self) -> sqlx::Result<()> {
        if std::mem::take(&mut self.alone) {
            let share = sqlx::query("SELECT pg_advisory_lock_shared($1, $2)");
            share.bind(LOCKS).bind(MEMBER).execute(&mut self.listener).await?;
            lock(&mut self.listener, "SELECT pg_advisory_unlock($1, $2)", MEMBER).await?;
        }
        Ok(())
    }

    /// Tells `jobs` what other servers did and `leads` whether this one follows the node, until `shutdown`.
    pub async fn run(
        mut self,
        jobs: Jobs,
        leads: watch::Sender<bool>,
        shutdown: CancellationToken,
    ) {
        loop {
            let lost = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                lost = self.listen(&jobs, &leads) => lost,
            };
            leads.send_replace(false);
            tracing::warn!(
                code = "database_lost",
                error = &lost as &dyn std::error::Error,
                "connection to the database lost"
            );
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(PULSE) => {}
                }
                let joined = async {
                    let mut peers = Self::join(&self.url).await?;
                    // All servers lost it: nobody has heard heartbeats.
                    if peers.alone
                        && let Err(error) = jobs.resume().await
                    {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            code = "leases_not_renewed",
                            error,
                            "leases could not be renewed"
                        );
                    }
                    peers.welcome().await?;
                    Ok::<_, sqlx::Error>(peers)
                };
                if let Ok(Ok(peers)) = tokio::time::timeout(PATIENCE, joined).await {
                    tracing::info!("connected to the database again");
                    self = peers;
                    break;
                }
            }
            // What was told in between has not been heard.
            jobs.wake(Notification::Ready);
            jobs.wake(Notification::Taken);
        }
    }

    /// Listens until the connection is lost.
    async fn listen(&mut self, jobs: &Jobs, leads: &watch::Sender<bool>) -> sqlx::Error {
        let mut pulse = tokio::time::interval(PULSE);
        loop {
            let heard = tokio::select! {
                _ = pulse.tick() => None,
                heard = self.listener.try_recv() => Some(heard),
            };
            match heard {
                Some(Ok(Some(news))) => match news.payload() {
                    text if text == Notification::Ready.name() => jobs.wake(Notification::Ready),
                    text if text == Notification::Taken.name() => jobs.wake(Notification::Taken),
                    // A later version's.
                    _ => {}
                },
                Some(Ok(None)) => return sqlx::Error::WorkerCrashed,
                Some(Err(error)) => return error,
                None => {
                    let pulse = async {
                        if *leads.borrow() {
                            sqlx::query("SELECT 1").execute(&mut self.listener).await.map(|_| true)
                        } else {
                            lock(&mut self.listener, "SELECT pg_try_advisory_lock($1, $2)", LEADER)
                                .await
                        }
                    };
                    match tokio::time::timeout(PATIENCE, pulse).await {
                        Ok(Ok(leading)) => drop(leads.send_if_modified(|leads| {
                            let news = *leads != leading;
                            *leads = leading;
                            news
                        })),
                        Ok(Err(error)) => return error,
                        Err(_elapsed) => return sqlx::Error::PoolTimedOut,
                    }
                }
            }
        }
    }
}

async fn lock(listener: &mut PgListener, query: &'static str, name: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar(query).bind(LOCKS).bind(name).fetch_one(listener).await
}
