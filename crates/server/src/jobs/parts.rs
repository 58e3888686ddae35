//! How one proof is made by many clients, as a pure function: [`next_steps`] says which parts are missing.
//!
//! * The run's segments, and its batches of keccak permutations, are covered by parts. Each part is a job like any other.
//! * Proofs of adjacent ranges of segments are joined when no more segments wait for a client, several pairs at the same time. Those of
//!   keccak batches are united when all are there.
//! * The last part, `finish`, joins what is left and resolves it: its result is the proof that the whole job waits for.
//! * A part that was begun is never made larger or smaller: a proof that comes late fits its range. Proofs may overlap, and the fewest
//!   that cover the run are used.

use super::{batch::Target, state::State};
use protocol::{ArtifactId, DeadCause, JobId, PartWork, ProofKind};
use sha2::{Digest, Sha256};
use std::{ops::Range, time::Duration};

/// What a run consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its segments.
    pub segments: u32,
    /// Its batches of keccak permutations.
    pub keccak: u32,
}

/// How a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a client.
    Ready,
    /// A client has it, or its proof is being verified.
    Held,
    /// It is proved.
    Proved,
    /// It was cancelled.
    Cancelled,
    /// It was given up: no client could do it.
    GivenUp,
}

impl Stage {
    /// That of a part whose job is in this state.
    pub const fn of(state: &State) -> Self {
        match state {
            State::Ready | State::Superseded(_) => Self::Ready,
            State::Leased(_) | State::Verifying(_) => Self::Held,
            State::Proved => Self::Proved,
            State::Dead(DeadCause::Cancelled) => Self::Cancelled,
            State::Dead(_) => Self::GivenUp,
        }
    }

    /// Whether a client has it or may get it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Ready | Self::Held)
    }
}

/// A part of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartState {
    /// What is to be proven.
    pub work: PartWork,
    /// How that stands.
    pub stage: Stage,
    /// How often it was lent to somebody who could not do it.
    pub tried: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A part is missing.
    Add(PartWork),
    /// A part was given up, and gets fresh budgets: among many parts, two clients die on one of them by chance.
    Again(PartWork),
    /// A part is of no use any more.
    Cancel(PartWork),
    /// A part was given up again and again, so that the proof cannot be made this way.
    Dissolve,
}

/// More proofs than these are joined by several clients at the same time, rather than by the one that finishes.
const FINISHED_BY_ONE: usize = 3;

/// A part that was tried so often and given up is not tried again.
const MOST_TRIED: u32 = 6;

/// How long not to look again whether something is missing, after a look that took so long: clients' requests get most of the time,
/// however often something changes.
pub fn rest(took: Duration) -> Duration {
    (took * 3).min(Duration::from_millis(250))
}

/// The id of the job that asks for a part of `parent`'s proof, if its run is divided as `plan` says.
pub fn part_id(parent: JobId, plan: ArtifactId, work: &PartWork) -> JobId {
    let mut hash = Sha256::new();
    hash.update(b"l2-prover part 1\0");
    hash.update(parent.as_bytes());
    hash.update(plan.as_bytes());
    hash.update(work.to_string());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    JobId::from_bytes(id)
}

/// What the parts of a proof for `target` ask for.
pub const fn part_target(target: &Target) -> Target {
    Target { kind: ProofKind::Part, ..*target }
}

/// What is to be done for a proof of `run` that has `parts`, while `clients` can work on it; its batches of keccak permutations are
/// divided into about `keccak_parts`. Whoever does it asks again: nothing is left to do when the answer is empty.
pub fn next_steps(run: Run, parts: &[PartState], clients: usize, keccak_parts: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let of = |stage: Stage| parts.iter().filter(move |part| part.stage == stage);
    // What is tried again is as good as ready.
    let live =
        || parts.iter().filter(|part| !matches!(part.stage, Stage::Proved | Stage::Cancelled));
    let finish = parts.iter().find(|part| part.work == PartWork::Finish);
    if finish.is_some_and(|part| part.stage == Stage::Proved) {
        let open = parts.iter().filter(|part| part.stage.is_open());
        return open.map(|part| Step::Cancel(part.work)).collect();
    }
    let proved: Vec<_> = of(Stage::Proved).filter_map(|part| joinable(&part.work)).collect();
    let path = path(run.segments, &proved);
    let covered = |range: &Range<u32>| {
        path.iter().all(|piece| {
            piece.proved || piece.range.end <= range.start || piece.range.start >= range.end
        })
    };
    let hashed = united(run.keccak, parts);
    for part in parts {
        // What is not needed any more may be given up.
        let needed = match part.work {
            PartWork::Segments { first, end } => !covered(&(first..end)),
            PartWork::Join { first, end } => {
                !proved.iter().any(|proof| proof.start <= first && end <= proof.end)
            }
            PartWork::Keccak { .. } | PartWork::Unite { .. } => hashed.is_none(),
            PartWork::Finish => true,
        };
        match part.stage {
            Stage::GivenUp if needed && part.tried >= MOST_TRIED => return vec![Step::Dissolve],
            Stage::GivenUp if needed => steps.push(Step::Again(part.work)),
            stage if stage.is_open() && !needed => steps.push(Step::Cancel(part.work)),
            _ => {}
        }
    }

    let begun = |of: fn(&PartWork) -> Option<Range<u32>>| {
        live().filter_map(|part| of(&part.work)).collect::<Vec<_>>()
    };
    let at_work = begun(|work| match *work {
        PartWork::Segments { first, end } => Some(first..end),
        _ => None,
    });
    for piece in path.iter().filter(|piece| !piece.proved) {
        for gap in without(piece.range.clone(), &at_work) {
            steps.push(Step::Add(PartWork::Segments { first: gap.start, end: gap.end }));
        }
    }
    if hashed.is_none() {
        steps.extend(missing_keccak(run.keccak, parts, keccak_parts));
    }

    let busy = begun(|work| match *work {
        PartWork::Join { first, end } => Some(first..end),
        _ => None,
    });
    let waiting = of(Stage::Ready).any(|part| matches!(part.work, PartWork::Segments { .. }));
    let added = steps.iter().any(|step| matches!(step, Step::Add(PartWork::Segments { .. })));
    let whole = path.iter().all(|piece| piece.proved);
    if whole && (path.len() <= FINISHED_BY_ONE || clients <= 1) {
        let ready = hashed.is_some() || run.keccak == 0;
        if ready && finish.is_none_or(|part| part.stage == Stage::Cancelled) {
            steps.push(Step::Add(PartWork::Finish));
        }
    } else if !waiting && !added && clients > 1 {
        let free = |piece: &Piece| {
            piece.proved
                && !busy
                    .iter()
                    .any(|join| join.start < piece.range.end && piece.range.start < join.end)
        };
        for row in path.chunk_by(|one, other| free(one) && free(other)) {
            // Pairs, unless there are many: what one client joins in a row, two could have joined at the same time.
            let fair = if row.len() <= 4 * clients { 2 } else { row.len().div_ceil(clients) };
            for pieces in row.chunks(fair).filter(|pieces| pieces.len() >= 2) {
                let (first, end) = (pieces[0].range.start, pieces[pieces.len() - 1].range.end);
                steps.push(Step::Add(PartWork::Join { first, end }));
            }
        }
    }
    steps
}

/// The proofs that a part is made of, in the order of their ranges; none if one is missing.
pub fn made_of<T: Copy>(work: &PartWork, run: Run, proved: &[(PartWork, T)]) -> Option<Vec<T>> {
    let fewest = |range: Range<u32>, of: &dyn Fn(&PartWork) -> Option<Range<u32>>| {
        let inside: Vec<_> = proved
            .iter()
            .filter_map(|(work, proof)| Some((of(work)?, *proof)))
            .filter(|(found, _)| range.start <= found.start && found.end <= range.end)
            .map(|(found, proof)| (found.start - range.start..found.end - range.start, proof))
            .collect();
        let ranges: Vec<_> = inside.iter().map(|(range, _)| range.clone()).collect();
        let path = path(range.end - range.start, &ranges);
        let proof_of = |piece: &Piece| {
            let same = inside.iter().find(|(range, _)| piece.proved && *range == piece.range);
            same.map(|(_, proof)| *proof)
        };
        path.iter().map(proof_of).collect::<Option<Vec<_>>>()
    };
    let keccak = |all: bool| {
        fewest(0..run.keccak, &|work| match *work {
            PartWork::Keccak { first, end } => Some(first..end),
            PartWork::Unite { end } if all => Some(0..end),
            _ => None,
        })
    };
    match *work {
        PartWork::Segments { .. } | PartWork::Keccak { .. } => Some(Vec::new()),
        PartWork::Join { first, end } => fewest(first..end, &joinable),
        PartWork::Unite { .. } => keccak(false),
        PartWork::Finish => {
            let mut all = fewest(0..run.segments, &joinable)?;
            if run.keccak > 0 {
                let [root] = keccak(true)?[..] else { return None };
                all.push(root);
            }
            Some(all)
        }
    }
}

/// The segments of which a proof of such a part is a proof.
fn joinable(work: &PartWork) -> Option<Range<u32>> {
    match *work {
        PartWork::Segments { first, end } | PartWork::Join { first, end } => Some(first..end),
        _ => None,
    }
}

/// A range that one proof covers, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    range: Range<u32>,
    proved: bool,
}

/// Covers `0..end` by as few of the `proved` ranges as possible, which leave as little uncovered as possible.
fn path(end: u32, proved: &[Range<u32>]) -> Vec<Piece> {
    // The cost of a way to each place: what it leaves uncovered, then its proofs; and where its last step begins.
    let mut best = vec![((u32::MAX, u32::MAX), 0, false); end as usize + 1];
    best[0].0 = (0, 0);
    let mut starts: Vec<_> =
        proved.iter().filter(|range| range.start < range.end && range.end <= end).collect();
    starts.sort_by_key(|range| range.start);
    let mut starts = starts.into_iter().peekable();
    for place in 0..end {
        let (open, proofs) = best[place as usize].0;
        let mut step = |to: u32, cost, proved| {
            if cost < best[to as usize].0 {
                best[to as usize] = (cost, place, proved);
            }
        };
        step(place + 1, (open + 1, proofs), false);
        while let Some(range) = starts.next_if(|range| range.start == place) {
            step(range.end, (open, proofs + 1), true);
        }
    }
    let (mut pieces, mut place) = (Vec::<Piece>::new(), end);
    while place > 0 {
        let (_, from, proved) = best[place as usize];
        match pieces.last_mut() {
            Some(later) if !later.proved && !proved => later.range.start = from,
            _ => pieces.push(Piece { range: from..place, proved }),
        }
        place = from;
    }
    pieces.reverse();
    pieces
}

/// What is left of `range` without `others`.
fn without(range: Range<u32>, others: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut others: Vec<_> = others.to_vec();
    others.sort_by_key(|other| other.start);
    let (mut left, mut place) = (Vec::new(), range.start);
    for other in others {
        if place < other.start.min(range.end) {
            left.push(place..other.start.min(range.end));
        }
        place = place.max(other.end);
    }
    if place < range.end {
        left.push(place..range.end);
    }
    left
}

/// The part whose proof is that of all keccak batches, if there is one.
fn united(batches: u32, parts: &[PartState]) -> Option<PartWork> {
    let all = |work: &PartWork| {
        *work == PartWork::Unite { end: batches }
            || *work == PartWork::Keccak { first: 0, end: batches }
    };
    parts.iter().find(|part| part.stage == Stage::Proved && all(&part.work)).map(|part| part.work)
}

/// What is missing for a proof of all keccak batches, in about so many parts.
fn missing_keccak(batches: u32, parts: &[PartState], keccak_parts: usize) -> Vec<Step> {
    let lives = |part: &&PartState| part.stage != Stage::Cancelled;
    let keccak = |part: &PartState| match part.work {
        PartWork::Keccak { first, end } => Some((first..end, part.stage)),
        _ => None,
    };
    let there: Vec<_> = parts.iter().filter(lives).filter_map(keccak).collect();
    let ranges: Vec<_> = there.iter().map(|(range, _)| range.clone()).collect();
    let missing = without(0..batches, &ranges);
    if missing.is_empty() {
        let proved = there.iter().all(|(_, stage)| *stage == Stage::Proved);
        let unite = PartWork::Unite { end: batches };
        let begun = parts.iter().filter(lives).any(|part| part.work == unite);
        return if batches > 0 && proved && !begun { vec![Step::Add(unite)] } else { Vec::new() };
    }
    // Powers of two, so that the proof of each is one of those that the guest's own tree has.
    let most = (batches / u32::try_from(keccak_parts.max(1)).unwrap_or(u32::MAX)).max(1);
    let most = 1 << most.ilog2();
    missing
        .into_iter()
        .flat_map(|gap| aligned(gap, most))
        .map(|range| Step::Add(PartWork::Keccak { first: range.start, end: range.end }))
        .collect()
}

/// Cuts a range into powers of two, at most `most`, each of which begins at a multiple of itself.
fn aligned(range: Range<u32>, most: u32) -> Vec<Range<u32>> {
    let (mut pieces, mut place) = (Vec::new(), range.start);
    while place < range.end {
        let mut size = most;
        while place % size != 0 || place + size > range.end {
            size /= 2;
        }
        pieces.push(place..place + size);
        place += size;
    }
    pieces
}
