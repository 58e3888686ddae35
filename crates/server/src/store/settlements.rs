//! Settlements: batches on their way to a contract on L1, and who sends them there.
//!
//! * One process at a time sends to a contract: it holds the contract's row in `settlers` for a while, and renews it with all
//!   that it writes. One that was taken for dead writes nothing any more, whatever it believes.
//! * What was signed is durable before anybody can send it.

use super::{JobStore, Result, StoreError, rows::bound};
use crate::{
    clock::Timestamp,
    database::{Tx, columns::Col},
    jobs::settlement::{
        Fees, NewSettlement, Rollup, Settleable, Settled, Settlement, SettlementEvent,
        SettlementState, SignedTx,
    },
};
use alloy_primitives::B256;
use protocol::ProofKind;
use sqlx::any::AnyRow;
use std::time::Duration;

/// Who sends to a contract, for as long as it is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settler {
    /// The contract.
    pub rollup: Rollup,
    /// The name of this process.
    pub holder: [u8; 16],
    /// So long after its last word another may take its place.
    pub lease: Duration,
}

const COLUMNS: &str = "id, first, last, parent_hash, last_hash, state, call, nonce, tx_hash, tx, max_fee, priority_fee, \
                       signed_at, wasted";

impl JobStore {
    /// Whether `settler` is the one that sends from now on. It takes the place of one that fell silent.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn hold_settling(&self, settler: &Settler, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        // A time further away than any lease was written by a clock that was wrong.
        let hold = sqlx::query(
            "INSERT INTO settlers (rollup, holder, holds_until) VALUES ($1, $2, $3)
             ON CONFLICT (rollup) DO UPDATE SET holder = $2, holds_until = $3
             WHERE settlers.holder = $2 OR settlers.holds_until < $4 OR settlers.holds_until > $5",
        );
        let hold = hold
            .bind(Col(settler.rollup))
            .bind(Col(settler.holder))
            .bind(Col(now + settler.lease))
            .bind(Col(now))
            .bind(Col(now + settler.lease * 2));
        let held = self.ok(hold.execute(&mut *tx).await)?.rows_affected() == 1;
        // Where nobody ever settled, and nobody tries any more: somebody named the wrong contract.
        let wrong =
            "DELETE FROM settlers WHERE rollup <> $1 AND seen_at IS NULL AND holds_until < $2";
        let wrong = sqlx::query(wrong).bind(Col(settler.rollup)).bind(Col(now));
        self.ok(wrong.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)?;
        Ok(held)
    }

    /// Lets another take its place at once.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn leave_settling(&self, settler: &Settler) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let leave = "UPDATE settlers SET holds_until = 0 WHERE rollup = $1 AND holder = $2";
        let leave = sqlx::query(leave).bind(Col(settler.rollup)).bind(Col(settler.holder));
        self.ok(leave.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)
    }

    /// Forgets that anybody settled in a contract, unless somebody does so now: no figure and no alarm is of it any more. Returns whether
    /// there was one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn forget_settling(&self, rollup: &Rollup, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let forget = sqlx::query("DELETE FROM settlers WHERE rollup = $1 AND holds_until < $2");
        let forget = forget.bind(Col(*rollup)).bind(Col(now)).execute(&mut *tx).await;
        let found = self.ok(forget)?.rows_affected() == 1;
        self.ok(tx.commit().await)?;
        Ok(found)
    }

    /// Batches of which it is open whether they stay settled, in the order of the chain.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn open_settlements(&self, rollup: &Rollup) -> Result<Vec<Settlement>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM settlements WHERE rollup = $1 AND state IN ('ready', 'signed', 'seen') ORDER BY first, id"
        )));
        let rows = rows.bind(Col(*rollup)).fetch_all(self.db.readers()).await;
        self.ok(rows)?.iter().map(|row| self.settlement(row)).collect()
    }

    /// The last batch that is settled for good, as far as it is known here.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn last_settlement(&self, rollup: &Rollup) -> Result<Option<Settlement>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM settlements WHERE rollup = $1 AND state = 'final' ORDER BY first DESC LIMIT 1"
        )));
        let row = row.bind(Col(*rollup)).fetch_optional(self.db.readers()).await;
        self.ok(row)?.map(|row| self.settlement(&row)).transpose()
    }

    /// The most that was offered for a nonce.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn offered(&self, rollup: &Rollup, nonce: u64) -> Result<Option<Fees>> {
        let row = sqlx::query(
            "SELECT max(max_fee) AS max_fee, max(priority_fee) AS priority_fee FROM settlements WHERE rollup = $1 AND nonce = $2",
        );
        let row = row.bind(Col(*rollup)).bind(bound(nonce)).fetch_one(self.db.readers()).await;
        let row = self.ok(row)?;
        let (max, priority) = (self.get(&row, "max_fee")?, self.get(&row, "priority_fee")?);
        Ok(Option::zip(max, priority).map(|(max, priority)| Fees { max, priority }))
    }

    /// The hash of an L2 block at which a batch on the chain ends, or after which one begins.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn hash_on_chain(&self, number: u64) -> Result<Option<B256>> {
        let rows = sqlx::query(
            "SELECT last AS number, last_hash AS hash FROM (SELECT last, last_hash FROM batches WHERE superseded_at IS NULL AND first <= $1
             ORDER BY first DESC LIMIT 1) AS around
             UNION ALL SELECT first - 1, parent_hash FROM batches WHERE superseded_at IS NULL AND first = $2",
        );
        let next = bound(number.saturating_add(1));
        let rows = rows.bind(bound(number)).bind(next).fetch_all(self.db.readers()).await;
        for row in &self.ok(rows)? {
            if self.get::<u64>(row, "number")? == number {
                return self.get(row, "hash").map(Some);
            }
        }
        Ok(None)
    }

    /// The accepted proofs of this kind of the blocks from `first` on, of as many blocks as there is a proof of.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn settleable(&self, first: u64, kind: ProofKind) -> Result<Option<Settleable>> {
        let proofs = match kind.is_made_of_proofs() {
            true => "FROM folds s JOIN jobs j ON j.id = s.job WHERE j.superseded = 0",
            false => {
                "FROM batches s JOIN jobs j ON j.batch = s.id AND j.parent IS NULL WHERE s.superseded_at IS NULL"
            }
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT s.first, s.last, s.statement, j.id, j.system, j.program_id, j.kind, j.proof, j.proof_len
             {proofs} AND s.first = $1 AND j.state = 'proved' AND j.kind = $2 ORDER BY s.last DESC, j.seq"
        )));
        let rows = rows.bind(bound(first)).bind(Col(kind)).fetch_all(self.db.readers()).await;
        let mut found: Option<Settleable> = None;
        for row in &self.ok(rows)? {
            let (blocks, statement) = (self.range(row)?, self.get(row, "statement")?);
            let proof = self.job_proof(row, self.get(row, "id")?)?;
            match &mut found {
                None => found = Some(Settleable { blocks, statement, proofs: vec![proof] }),
                Some(it) if it.blocks == blocks && it.statement == statement => {
                    it.proofs.push(proof);
                }
                Some(_) => break,
            }
        }
        Ok(found)
    }

    /// Adds a batch, or takes one up again that was given up, or believed to be settled for good.
    ///
    /// # Errors
    /// [`StoreError::NotTheSettler`] if another took this one's place.
    pub async fn add_settlement(
        &self,
        settler: &Settler,
        new: &NewSettlement,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.fenced(settler, now).await?;
        let add = sqlx::query(
            "INSERT INTO settlements (rollup, first, last, parent_hash, last_hash, state, call) VALUES ($1, $2, $3, $4, $5, 'ready', $6)
             ON CONFLICT (rollup, first, last, last_hash) DO UPDATE SET state = 'ready', call = $6, tx = NULL",
        );
        let add = add
            .bind(Col(settler.rollup))
            .bind(Col(new.blocks.first()))
            .bind(Col(new.blocks.last()))
            .bind(Col(new.parent_hash))
            .bind(Col(new.last_hash))
            .bind(new.call.clone());
        self.ok(add.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)
    }

    /// Notes what happened to a batch.
    ///
    /// # Errors
    /// [`StoreError::NotTheSettler`] if another took this one's place; nothing has happened then.
    pub async fn note_settlement(
        &self,
        settler: &Settler,
        id: i64,
        event: &SettlementEvent,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.fenced(settler, now).await?;
        let change = match event {
            SettlementEvent::Signed { tx: signed, wasted } => {
                // ORDER: before the row itself changes, since its nonce before decides.
                let behind = sqlx::query(
                    "UPDATE settlements SET state = 'ready', tx = NULL WHERE rollup = $1 AND state = 'signed' AND first >
                     (SELECT first FROM settlements WHERE id = $2 AND nonce IS NOT NULL AND nonce <> $3)",
                );
                let behind = behind.bind(Col(settler.rollup)).bind(id).bind(Col(signed.nonce));
                self.ok(behind.execute(&mut *tx).await)?;
                sqlx::query(
                    "UPDATE settlements SET state = 'signed', nonce = $2, tx_hash = $3, tx = $4, max_fee = $5, priority_fee = $6,
                     signed_at = $7, wasted = wasted + $8 WHERE id = $1",
                )
                .bind(id)
                .bind(Col(signed.nonce))
                .bind(Col(signed.hash))
                .bind(signed.raw.clone())
                .bind(Col(signed.fees.max))
                .bind(Col(signed.fees.priority))
                .bind(Col(signed.at))
                .bind(Col(*wasted))
            }
            SettlementEvent::Seen => {
                sqlx::query("UPDATE settlements SET state = 'seen', wasted = 0 WHERE id = $1")
                    .bind(id)
            }
            SettlementEvent::Unseen => sqlx::query(
                "UPDATE settlements SET state = CASE WHEN tx IS NULL THEN 'ready' ELSE 'signed' END WHERE id = $1",
            )
            .bind(id),
            SettlementEvent::Final => over(id, SettlementState::Final),
            SettlementEvent::Dropped => over(id, SettlementState::Dropped),
        };
        self.ok(change.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)
    }

    /// Notes how things stand on L1.
    ///
    /// # Errors
    /// [`StoreError::NotTheSettler`] if another took this one's place.
    pub async fn note_settled(
        &self,
        settler: &Settler,
        seen: &Settled,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.fenced(settler, now).await?;
        let note = sqlx::query(
            "UPDATE settlers SET settled = $2, finalized = $3, balance_gwei = $4, waiting_since = $5, alarm = $6, seen_at = $7
             WHERE rollup = $1",
        );
        let note = note
            .bind(Col(settler.rollup))
            .bind(Col(seen.settled))
            .bind(Col(seen.finalized))
            .bind(Col(seen.balance_gwei))
            .bind(Col(seen.waiting_since))
            .bind(Col(seen.alarm.clone()))
            .bind(Col(seen.seen_at));
        self.ok(note.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)
    }

    /// The contracts that are settled to, and how things stand there.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn settled_on(&self) -> Result<Vec<(Rollup, Settled)>> {
        let rows = sqlx::query("SELECT * FROM settlers ORDER BY rollup");
        let rows = rows.fetch_all(self.db.readers()).await;
        let read = |row: &AnyRow| -> Result<_> {
            let settled = Settled {
                settled: self.get(row, "settled")?,
                finalized: self.get(row, "finalized")?,
                balance_gwei: self.get(row, "balance_gwei")?,
                waiting_since: self.get(row, "waiting_since")?,
                alarm: self.get(row, "alarm")?,
                seen_at: self.get(row, "seen_at")?,
            };
            Ok((self.get(row, "rollup")?, settled))
        };
        self.ok(rows)?.iter().map(read).collect()
    }

    /// A transaction of the one that sends, which has its row until it ends.
    async fn fenced(&self, settler: &Settler, now: Timestamp) -> Result<Tx> {
        let mut tx = self.db.begin().await?;
        let hold = "UPDATE settlers SET holds_until = $3 WHERE rollup = $1 AND holder = $2";
        let hold = sqlx::query(hold).bind(Col(settler.rollup)).bind(Col(settler.holder));
        let hold = hold.bind(Col(now + settler.lease)).execute(&mut *tx).await;
        match self.ok(hold)?.rows_affected() {
            1 => Ok(tx),
            _ => Err(StoreError::NotTheSettler(settler.rollup)),
        }
    }

    fn settlement(&self, row: &AnyRow) -> Result<Settlement> {
        let tx = match self.get::<Option<Vec<u8>>>(row, "tx")? {
            Some(raw) => Some(SignedTx {
                nonce: self.get(row, "nonce")?,
                hash: self.get(row, "tx_hash")?,
                raw,
                fees: Fees {
                    max: self.get(row, "max_fee")?,
                    priority: self.get(row, "priority_fee")?,
                },
                at: self.get(row, "signed_at")?,
            }),
            None => None,
        };
        Ok(Settlement {
            id: self.get(row, "id")?,
            blocks: self.range(row)?,
            parent_hash: self.get(row, "parent_hash")?,
            last_hash: self.get(row, "last_hash")?,
            state: self.get(row, "state")?,
            call: self.get(row, "call")?,
            tx,
            wasted: self.get(row, "wasted")?,
        })
    }
}

/// What is over needs neither call nor transaction.
fn over(
    id: i64,
    state: SettlementState,
) -> sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments> {
    let over = "UPDATE settlements SET state = $2, call = $3, tx = NULL WHERE id = $1";
    sqlx::query(over).bind(id).bind(Col(state)).bind(Vec::<u8>::new())
}
