use super::*;
use protocol::BlockRange;
use std::slice::from_ref;

const GWEI: u64 = 1_000_000_000;
const RULES: Rules = Rules {
    bump_after: Duration::from_secs(60),
    resend_after: Duration::from_secs(12),
    caps: Caps { max: 100 * GWEI, priority: 5 * GWEI },
};

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_000_000 + 1_000 * seconds)
}

fn hash(number: u64) -> B256 {
    B256::with_last_byte(u8::try_from(number + 1).unwrap())
}

fn row(first: u64, last: u64, state: SettlementState) -> Settlement {
    Settlement {
        id: i64::try_from(first).unwrap(),
        blocks: BlockRange::new(first, last).unwrap(),
        parent_hash: hash(first - 1),
        last_hash: hash(last),
        state,
        call: Vec::new(),
        tx: None,
        wasted: 0,
    }
}

/// Signed at second 0 for 10 gwei.
fn signed(first: u64, last: u64, nonce: u64) -> Settlement {
    let tx = SignedTx {
        nonce,
        hash: B256::repeat_byte(u8::try_from(nonce).unwrap()),
        raw: Vec::new(),
        fees: Fees { max: 10 * GWEI, priority: GWEI },
        at: at(0),
    };
    Settlement { tx: Some(tx), ..row(first, last, SettlementState::Signed) }
}

fn head(number: u64) -> Head {
    Head { number, hash: hash(number), known: Known::Same }
}

fn view(latest: u64, finalized: u64, nonce: u64) -> View {
    View {
        latest: head(latest),
        finalized: Some(head(finalized)),
        nonce,
        offered: None,
        market: Market { base_fee: 4 * GWEI, tip: GWEI },
    }
}

/// What is done with these rows, of which nothing was sent by this process.
fn plan(open: &[Settlement], view: &View, now: Timestamp) -> Plan {
    next(Rows { open, stale: &BTreeSet::new(), sent: &BTreeMap::new() }, view, now, &RULES)
}

fn note(id: i64, event: SettlementEvent) -> Plan {
    Plan::quietly(Step::Note(id, event))
}

#[test]
fn a_batch_goes_from_ready_to_final() {
    assert_eq!(plan(&[], &view(4, 4, 0), at(0)), Plan::quietly(Step::Take(5)));
    let fees = Fees { max: 9 * GWEI, priority: GWEI };
    let sign = Step::Sign { id: 5, nonce: 3, fees, wasted: false };
    let ready = row(5, 6, SettlementState::Ready);
    assert_eq!(plan(&[ready], &view(4, 4, 3), at(0)), Plan::quietly(sign));
    let signed = signed(5, 6, 3);
    assert_eq!(plan(from_ref(&signed), &view(4, 4, 3), at(1)), Plan::quietly(Step::Send(vec![5])));
    assert_eq!(plan(from_ref(&signed), &view(6, 4, 4), at(1)), note(5, SettlementEvent::Seen));
    let seen = Settlement { state: SettlementState::Seen, ..signed };
    assert_eq!(plan(from_ref(&seen), &view(6, 4, 4), at(1)), Plan::quietly(Step::Take(7)));
    assert_eq!(plan(from_ref(&seen), &view(6, 6, 4), at(1)), note(5, SettlementEvent::Final));
    assert_eq!(plan(&[seen], &view(4, 4, 3), at(1)), note(5, SettlementEvent::Unseen));
}

#[test]
fn what_was_sent_is_sent_again_each_slot_and_then_replaced() {
    let row = signed(5, 6, 3);
    let sent = BTreeMap::from([(row.tx.as_ref().unwrap().hash, at(10))]);
    let rows = Rows { open: &[row], stale: &BTreeSet::new(), sent: &sent };
    let step = |seconds| next(rows, &view(4, 4, 3), at(seconds), &RULES);
    assert_eq!(step(11), Plan::quietly(Step::Wait));
    assert_eq!(step(22), Plan::quietly(Step::Send(vec![5])));
    // An eighth more of both, or what is usual, if that is more.
    let fees = Fees { max: 11_250_000_000, priority: 1_125_000_000 };
    let bump = Plan::quietly(Step::Sign { id: 5, nonce: 3, fees, wasted: false });
    assert_eq!(step(60), bump);
    // A clock that was set back does not keep it from being replaced.
    let past = next(rows, &view(4, 4, 3), Timestamp(0), &RULES);
    assert_eq!(past, bump);
    let dear = View { market: Market { base_fee: 20 * GWEI, tip: 3 * GWEI }, ..view(4, 4, 3) };
    let fees = Fees { max: 43 * GWEI, priority: 3 * GWEI };
    let bump = Plan::quietly(Step::Sign { id: 5, nonce: 3, fees, wasted: false });
    assert_eq!(next(rows, &dear, at(60), &RULES), bump);
}

#[test]
fn what_may_not_be_replaced_is_sent_again_and_said() {
    let mut row = signed(5, 6, 3);
    row.tx.as_mut().unwrap().fees.max = 99 * GWEI;
    let stuck = Plan::loudly(Step::Send(vec![5]), Alarm::Stuck { nonce: 3 });
    assert_eq!(plan(&[row], &view(4, 4, 3), at(60)), stuck);
    let dear = View { market: Market { base_fee: 100 * GWEI, tip: 1 }, ..view(4, 4, 3) };
    let ready = plan(&[self::row(5, 6, SettlementState::Ready)], &dear, at(60));
    let needed = Fees { max: 100 * GWEI + 1, priority: 1 };
    assert_eq!(ready, Plan::loudly(Step::Wait, Alarm::FeesTooHigh(TooHigh { needed })));
}

#[test]
fn one_after_the_other_is_signed_and_all_are_sent_again_after_a_reorg() {
    let rows = [signed(5, 6, 3), signed(7, 7, 4), row(8, 8, SettlementState::Ready)];
    assert_eq!(plan(&rows, &view(4, 4, 3), at(1)), Plan::quietly(Step::Send(vec![5, 7])));
    let seen = Settlement { state: SettlementState::Seen, ..rows[0].clone() };
    let rows = [seen, rows[1].clone(), rows[2].clone()];
    assert_eq!(plan(&rows, &view(6, 4, 4), at(1)), Plan::quietly(Step::Send(vec![7])));
}

#[test]
fn a_nonce_that_was_used_up_is_replaced_at_first_at_once_and_then_more_and_more_slowly() {
    let mut row = signed(5, 6, 3);
    let fees = Fees { max: 9 * GWEI, priority: GWEI };
    let sign = Step::Sign { id: 5, nonce: 7, fees, wasted: true };
    let alarm = |before| Alarm::NonceWasted { nonce: 3, before };
    assert_eq!(plan(from_ref(&row), &view(4, 4, 7), at(1)), Plan::loudly(sign.clone(), alarm(0)));
    for (wasted, pause) in [(1, 60), (2, 120), (5, 960), (40, 3_600)] {
        row.wasted = wasted;
        let waits = plan(from_ref(&row), &view(4, 4, 7), at(pause - 1));
        assert_eq!(waits, Plan::loudly(Step::Wait, alarm(wasted)));
        let signs = plan(from_ref(&row), &view(4, 4, 7), at(pause));
        assert_eq!(signs, Plan::loudly(sign.clone(), alarm(wasted)));
    }
}

#[test]
fn a_transaction_before_ours_that_is_lost_holds_nothing_up_for_long() {
    let row = signed(5, 6, 9);
    let alarm = Alarm::NonceGap { nonce: 9, expected: 7 };
    let waits = plan(from_ref(&row), &view(4, 4, 7), at(59));
    assert_eq!(waits, Plan::loudly(Step::Send(vec![5]), alarm));
    let fees = Fees { max: 9 * GWEI, priority: GWEI };
    let sign = Step::Sign { id: 5, nonce: 7, fees, wasted: false };
    assert_eq!(plan(from_ref(&row), &view(4, 4, 7), at(60)), Plan::loudly(sign, alarm));
    // Another transaction of ours may be there already.
    let offered = Some(Fees { max: 40 * GWEI, priority: 2 * GWEI });
    let again = plan(&[row], &View { offered, ..view(4, 4, 7) }, at(60));
    let fees = Fees { max: 45 * GWEI, priority: 2_250_000_000 };
    assert_eq!(again.step, Step::Sign { id: 5, nonce: 7, fees, wasted: false });
}

#[test]
fn nothing_is_signed_on_a_chain_that_is_not_known() {
    let rows = [row(5, 6, SettlementState::Ready)];
    let other = Head { known: Known::Other(hash(9)), ..head(4) };
    let alarm = Alarm::OtherHead { number: 4, settled: hash(4), here: hash(9) };
    let view = |latest| View { latest, ..view(4, 4, 0) };
    assert_eq!(plan(&rows, &view(other), at(0)), Plan::loudly(Step::Wait, alarm));
    let unknown = Head { known: Known::Nothing, ..head(4) };
    let alarm = Alarm::UnknownHead { number: 4 };
    assert_eq!(plan(&rows, &view(unknown), at(0)), Plan::loudly(Step::Wait, alarm));
    // Nor is anything final by a head that is not.
    let seen = [row(3, 4, SettlementState::Seen)];
    let finalized = Some(Head { known: Known::Other(hash(9)), ..head(4) });
    let plan = plan(&seen, &View { finalized, ..view(head(4)) }, at(0));
    assert_eq!(plan, Plan::quietly(Step::Take(5)));
}

#[test]
fn what_somebody_else_settled_is_settled() {
    let ready = [row(5, 6, SettlementState::Ready)];
    assert_eq!(plan(&ready, &view(6, 4, 0), at(0)), note(5, SettlementEvent::Seen));
    assert_eq!(plan(&ready, &view(9, 4, 0), at(0)), note(5, SettlementEvent::Seen));
    // Only a part of it: what is left is another batch.
    assert_eq!(plan(&ready, &view(5, 4, 0), at(0)), note(5, SettlementEvent::Dropped));
    // The contract's block is another one than the batch's last.
    let mut fork = ready[0].clone();
    fork.last_hash = hash(40);
    assert_eq!(plan(&[fork], &view(6, 4, 0), at(0)), note(5, SettlementEvent::Dropped));
}

#[test]
fn what_the_l2_has_abandoned_is_dropped_signed_or_not() {
    for row in [row(5, 6, SettlementState::Ready), signed(5, 6, 3)] {
        let stale = BTreeSet::from([5]);
        let rows = Rows { open: from_ref(&row), stale: &stale, sent: &BTreeMap::new() };
        let plan = next(rows, &view(4, 4, 3), at(0), &RULES);
        assert_eq!(plan, note(5, SettlementEvent::Dropped));
        let mut branch = row;
        branch.parent_hash = hash(40);
        assert_eq!(self::plan(&[branch], &view(4, 4, 3), at(0)), note(5, SettlementEvent::Dropped));
    }
}

/// An RPC had called final what was not: the batch is taken again.
#[test]
fn a_head_before_all_rows_goes_on_from_there() {
    let rows = [signed(7, 8, 4)];
    assert_eq!(plan(&rows, &view(4, 4, 3), at(0)), Plan::quietly(Step::Take(5)));
    let rows = [row(5, 6, SettlementState::Ready), signed(7, 8, 4)];
    assert!(matches!(plan(&rows, &view(4, 4, 3), at(0)).step, Step::Sign { id: 5, nonce: 3, .. }));
    let end = Head { number: u64::MAX, ..head(4) };
    let plan = plan(&[], &View { latest: end, ..view(4, 4, 0) }, at(0));
    assert_eq!(plan, Plan::quietly(Step::Take(u64::MAX)), "no number is too large");
}
