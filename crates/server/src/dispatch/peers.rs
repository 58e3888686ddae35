//! The other servers on the same PostgreSQL database: who follows the node, and who hears of what.
//!
//! * One connection of its own holds two of PostgreSQL's advisory locks, which go with the process or its machine.
//! * Whoever holds `LEADER` follows the node. Two that believe so for a moment do no harm: batches are enqueued one after
//!   the other, and the same batch once.
//! * Whoever could lead, and does not, holds `CANDIDATE` together with the others that could: its node answers. A leader whose
//!   node fails steps down if there is a candidate. If there is none, it goes on trying: nobody would do better.
//! * The database ends the session of a server that is stopped, and its locks go with the session.
//! * Every server holds `MEMBER` together with the others. Who can have it alone is the only one, so nobody has heard
//!   heartbeats before it.

use super::Jobs;
use crate::database::{CHANNEL, DatabaseUrl, LOCKS, Notification, POSTGRES_SESSION};
use sqlx::{Executor, postgres::PgListener};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The lock of whoever follows the node.
const LEADER: i32 = 1;

/// The lock that all servers share.
const MEMBER: i32 = 2;

/// The lock that all servers share that do not lead, and whose node answers.
const CANDIDATE: i32 = 3;

/// How often a server tries to become the leader, and makes sure that its connection lives.
const PULSE: Duration = Duration::from_secs(1);

/// The database ends the session of a server that is silent for so long. It has to be longer than the longest pulse of a server
/// that is only slow. PostgreSQL before version 14 does not know the setting: there, a stopped server keeps its locks.
const END_SILENT: &str =
    "SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'idle_session_timeout'";

/// Whether somebody shares a lock. Trying to have it alone would tell the same, and deceive whoever tries at that moment too.
const OTHERS_STAND: &str =
    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.classid = $1::int4::oid
    AND l.objid = $2::int4::oid AND l.objsubid = 2 AND l.granted)";

/// A leader whose node fails for so long steps down, if another server can do better.
const NODE_PATIENCE: Duration = Duration::from_secs(5);

/// A connection that answers more slowly is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server knows of its own node, and so whether it should lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeHealth {
    /// Nobody has asked it yet, or there is none.
    Unknown,
    /// It answers.
    Answers,
    /// It has not done what the intake needs since then.
    FailsSince(Instant),
}

/// An operator's word that another server shall lead counts for so long: then this one may again.
const HANDED_OVER: Duration = Duration::from_secs(60);

/// An operator hears after so long that no other server took over.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Who follows the node, and an operator's word on it. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
    /// Whether other servers may use the database.
    shared: bool,
    handed_over: watch::Sender<Option<Instant>>,
}

/// Why no other server follows the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHandedOver {
    /// This one does not.
    #[error("this server does not follow the node: ask the one whose status does not say standby")]
    DoesNotLead,
    /// There is none whose node answers.
    #[error(
        "no other server of this database has a node that answers, or the other was told less than a minute ago to make way: this one goes on"
    )]
    NobodyElse,
}

impl Leadership {
    /// What `leads` says, and no operator yet. Other servers may use the database if it is `shared`.
    pub fn new(leads: watch::Receiver<bool>, shared: bool) -> Self {
        Self { leads, shared, handed_over: watch::Sender::new(None) }
    }

    /// Lets another server follow its node, and this one not for a minute.
    ///
    /// # Errors
    /// [`NotHandedOver`]; then this one goes on.
    pub async fn hand_over(&self) -> Result<(), NotHandedOver> {
        let mut leads = self.leads.clone();
        if !*leads.borrow() {
            return Err(NotHandedOver::DoesNotLead);
        }
        if !self.shared {
            return Err(NotHandedOver::NobodyElse);
        }
        self.handed_over.send_replace(Some(Instant::now()));
        match tokio::time::timeout(TAKE_OVER, leads.wait_for(|leads| !leads)).await {
            Ok(_gone_or_stopping) => Ok(()),
            Err(_elapsed) => {
                self.handed_over.send_replace(None);
                Err(NotHandedOver::NobodyElse)
            }
        }
    }

    /// Whether an operator wants another server to lead.
    fn is_handed_over(&self) -> bool {
        self.handed_over.borrow().is_some_and(|at| at.elapsed() < HANDED_OVER)
    }
}

/// This server among those on the same database.
#[derive(Debug)]
pub struct Peers {
    url: DatabaseUrl,
    listener: PgListener,
    alone: bool,
    /// Whether it holds `CANDIDATE`.
    candidate: bool,
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
        Ok(Self { url: url.clone(), listener, alone, candidate: false })
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
        // ORDER: not before the start, which may take its time without a word on this connection.
        self.listener.execute(END_SILENT).await?;
        Ok(())
    }

    /// Tells `jobs` what other servers did and `leads` whether this one follows the node, until `shutdown`. What is heard of
    /// `node` decides whether it should.
    pub async fn run(
        mut self,
        jobs: Jobs,
        leads: watch::Sender<bool>,
        leadership: Leadership,
        node: watch::Receiver<NodeHealth>,
        shutdown: CancellationToken,
    ) {
        loop {
            let lost = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                lost = self.listen(&jobs, &leads, &leadership, &node) => lost,
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
    async fn listen(
        &mut self,
        jobs: &Jobs,
        leads: &watch::Sender<bool>,
        leadership: &Leadership,
        node: &watch::Receiver<NodeHealth>,
    ) -> sqlx::Error {
        let mut pulse = tokio::time::interval(PULSE);
        // A server that was stopped does not make up for the pulses that it missed.
        pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                    let (leading, health) = (*leads.borrow(), *node.borrow());
                    let pulse = self.pulse(leading, health, leadership.is_handed_over());
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

    /// Decides whether this server leads now. Says something to the database in any case, which ends silent sessions.
    async fn pulse(
        &mut self,
        leading: bool,
        node: NodeHealth,
        handed_over: bool,
    ) -> sqlx::Result<bool> {
        if leading {
            let fails = match node {
                NodeHealth::FailsSince(since) => since.elapsed() >= NODE_PATIENCE,
                NodeHealth::Unknown | NodeHealth::Answers => false,
            };
            if !(fails || handed_over) || !self.others_could_lead().await? {
                self.listener.execute("SELECT 1").await?;
                return Ok(true);
            }
            lock(&mut self.listener, "SELECT pg_advisory_unlock($1, $2)", LEADER).await?;
            let why = if fails { "this server's node fails" } else { "an operator wants it" };
            tracing::warn!(code = "stepped_down", why, "another server follows its own node now");
            return Ok(false);
        }
        let fails = matches!(node, NodeHealth::FailsSince(_)) || handed_over;
        self.stand(node == NodeHealth::Answers && !handed_over).await?;
        if fails && self.others_could_lead().await? {
            return Ok(false);
        }
        let leading =
            lock(&mut self.listener, "SELECT pg_try_advisory_lock($1, $2)", LEADER).await?;
        if leading {
            self.stand(false).await?;
        }
        Ok(leading)
    }

    /// Stands for leader, or no longer.
    async fn stand(&mut self, candidate: bool) -> sqlx::Result<()> {
        if self.candidate == candidate {
            return Ok(());
        }
        self.candidate = match candidate {
            true => {
                let share = "SELECT pg_try_advisory_lock_shared($1, $2)";
                lock(&mut self.listener, share, CANDIDATE).await?
            }
            false => {
                let leave = "SELECT pg_advisory_unlock_shared($1, $2)";
                lock(&mut self.listener, leave, CANDIDATE).await?;
                false
            }
        };
        Ok(())
    }

    /// Whether another server stands for leader. This one does not.
    async fn others_could_lead(&mut self) -> sqlx::Result<bool> {
        lock(&mut self.listener, OTHERS_STAND, CANDIDATE).await
    }
}

async fn lock(listener: &mut PgListener, query: &'static str, name: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar(query).bind(LOCKS).bind(name).fetch_one(listener).await
}
