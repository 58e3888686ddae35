//! Contract codes in the form that the EVM needs: with zeros after their end, and with their jump destinations, which are
//! searched for when a jump asks for them.

use alloc::{vec, vec::Vec};
use alloy_primitives::{B256, Bytes, map::B256Map};

use revm::bytecode::{Bytecode, JumpTable, opcode};

/// Number of zero bytes after a code that is executed in place: room for the longest immediate, and STOP. It is a
/// multiple of four, so that items stay word-aligned.
pub(crate) const PADDING: usize = 36;

/// A code of `len` bytes, followed by zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaddedCode<'a> {
    pub(crate) padded: &'a [u8],
    pub(crate) len: usize,
}

impl<'a> PaddedCode<'a> {
    /// The code itself.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        &self.padded[..self.len]
    }

    /// The code for the EVM: a copy, unless it lies in `owner`. Its jump destinations are left to a [`Search`].
    pub(crate) fn bytecode(&self, owner: Option<&Bytes>) -> Bytecode {
        if self.len == 0 || self.bytes().starts_with(&[0xef, 0x01, 0x00]) {
            return bytecode(self.bytes());
        }
        let padded = match owner {
            Some(owner) => owner.slice_ref(self.padded),
            None => Bytes::copy_from_slice(self.padded),
        };
        #[expect(unsafe_code, reason = "revm's constructor for what is already analysed")]
        // SAFETY: the code is followed by as many zeros as its last instruction can take, and STOP.
        unsafe {
            Bytecode::new_analyzed(padded, self.len, table(self.bytes()))
        }
    }
}

/// Decodes EIP-7702 delegations; everything else is legacy code.
pub(crate) fn bytecode(code: &[u8]) -> Bytecode {
    let bytes = Bytes::copy_from_slice(code);
    Bytecode::new_raw_checked(bytes.clone()).unwrap_or_else(|_| Bytecode::new_legacy(bytes))
}

/// The code's table: one without destinations, unless revm's own jumps will ask it.
fn table(code: &[u8]) -> JumpTable {
    #[cfg(feature = "std")]
    if crate::counts::counting() {
        let mut all = Search { found: vec![0; code.len().div_ceil(8)], ..Search::default() };
        all.read(code, 0, code.len() - 1);
        return JumpTable::from_slice(&all.found, code.len());
    }
    unsearched(code.len())
}

/// A table without destinations for a code of `len` bytes. It is one bit longer than the code, unlike any other table.
fn unsearched(len: usize) -> JumpTable {
    static NONE: [u8; 4096] = [0; 4096];
    match NONE.get(..len / 8 + 1) {
        Some(none) => JumpTable::from_static_slice(none, len + 1),
        None => JumpTable::from_slice(&vec![0; len / 8 + 1], len + 1),
    }
}

/// Whether the code's table says nothing, because its destinations are left to a [`Search`].
pub(crate) fn is_unsearched(code: &Bytecode) -> bool {
    code.legacy_jump_table().is_some_and(|table| table.len() != code.len())
}

/// What is known of the jump destinations of each code, by its hash.
#[derive(Debug, Default)]
pub(crate) struct Destinations(B256Map<Search>);

impl Destinations {
    /// The search in the code with this hash.
    pub(crate) fn of(&mut self, hash: B256) -> &mut Search {
        self.0.entry(hash).or_default()
    }
}

/// The jump destinations of one code, as far as jumps have asked for them.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// One bit for each byte of the code, lowest bit first: a byte that is known to be a destination.
    found: Vec<u8>,
    /// An instruction starts here, and all destinations before it are found.
    searched: usize,
    /// How often something certain was looked for nearby.
    nearby: u8,
}

/// How many suspected pushes [`starts_instruction`] follows back before it gives up.
const SUSPECTS: u32 = 3;
/// How far before a destination something is looked for that is certain, among how many candidates, and how often in one code:
/// nobody pays gas for it.
const NEAR: usize = 256;
const CANDIDATES: usize = 4;
const TRIES: u8 = 16;
/// Bytes of the longest push's operand.
const LONGEST: usize = (opcode::PUSH32 - opcode::PUSH0) as usize;

impl Search {
    /// Whether `at` is a destination of `code`, which is the same code in every call: a `JUMPDEST` that is not part of a
    /// push.
    pub(crate) fn is_destination(&mut self, code: &[u8], at: usize) -> bool {
        // SOUNDNESS: a jump goes to a `JUMPDEST` within the code, and nowhere else.
        if code.get(at) != Some(&opcode::JUMPDEST) {
            return false;
        }
        if self.has_found(at) || at < self.searched {
            return self.has_found(at);
        }
        if self.found.is_empty() {
            self.found = vec![0; code.len().div_ceil(8)];
        }
        // SOUNDNESS: nor does a jump go to an operand of a push.
        match starts_clearly(code, at) {
            true => self.found[at / 8] |= 1 << (at % 8),
            false => self.find(code, at),
        }
        self.has_found(at)
    }

    /// Whether `at` is known to be a destination.
    #[inline(always)]
    pub(crate) fn has_found(&self, at: usize) -> bool {
        self.found.get(at / 8).is_some_and(|found| found & 1 << (at % 8) != 0)
    }

    /// Finds out whether the byte at `at`, which looks like a destination, is one.
    #[inline(never)]
    fn find(&mut self, code: &[u8], at: usize) {
        match starts_instruction(code, at, &mut { SUSPECTS }) {
            Some(true) => self.found[at / 8] |= 1 << (at % 8),
            Some(false) => {}
            None => {
                let known = self.found_before(at).unwrap_or_default().max(self.searched);
                let start = match at - known <= NEAR {
                    true => Some(known),
                    false => self.certain_before(code, at),
                };
                match start {
                    Some(start) if start > self.searched => _ = self.read(code, start, at),
                    // From where everything is known, so that no byte of a code is read here more than once.
                    _ => self.searched = self.read(code, self.searched, at),
                }
            }
        }
    }

    /// The nearest destination before `at` that is known, if one is close. No byte from there to `at` was read before by a search
    /// for a destination that is one, or `at` would be known as well.
    fn found_before(&self, at: usize) -> Option<usize> {
        let mut byte = at / 8;
        let mut found = self.found[byte] & !(u8::MAX << (at % 8));
        let last = at.saturating_sub(NEAR) / 8;
        while found == 0 {
            if byte == last {
                return None;
            }
            byte -= 1;
            found = self.found[byte];
        }
        Some(8 * byte + found.ilog2() as usize)
    }

    /// Somewhere close before `at` where an instruction starts for certain.
    fn certain_before(&mut self, code: &[u8], at: usize) -> Option<usize> {
        if self.nearby == TRIES {
            return None;
        }
        self.nearby += 1;
        let near = at.saturating_sub(NEAR);
        let candidates = (near..at).rev().filter(|at| code[*at] == opcode::JUMPDEST);
        candidates
            .take(CANDIDATES)
            .find(|at| starts_instruction(code, *at, &mut { SUSPECTS }) == Some(true))
    }

    /// Reads the instructions from `start` on, notes the destinations up to `last`, and returns where the next instruction
    /// starts.
    fn read(&mut self, code: &[u8], start: usize, last: usize) -> usize {
        const JUMPDEST: i8 = opcode::JUMPDEST.cast_signed();
        const PUSH1: i8 = opcode::PUSH1.cast_signed();
        let mut at = start;
        while at <= last {
            let op = code[at];
            // As a signed number: DUP1 and everything above it is negative.
            match op.cast_signed() {
                ..JUMPDEST => {}
                JUMPDEST => self.found[at / 8] |= 1 << (at % 8),
                PUSH1.. => at += usize::from(op - opcode::PUSH0),
                _ => {}
            }
            at += 1;
        }
        at
    }
}

/// Whether it shows at a glance that an instruction starts at `at`: no byte that may be a push reaches it.
#[expect(clippy::cast_possible_truncation, reason = "at most 32")]
fn starts_clearly(code: &[u8], at: usize) -> bool {
    const EACH: u32 = 0x0101_0101;
    let (words, last) = code[..at].split_at(at - at % 4);
    let reaches = |(distance, byte): (usize, &u8)| looks_like_push_over(*byte, distance);
    let words = bytemuck::try_cast_slice::<u8, u32>(words).ok();
    let Some(words) = words.and_then(|words| words.last_chunk::<{ LONGEST / 4 }>()) else {
        return false;
    };
    if last.iter().rev().enumerate().any(reaches) {
        return false;
    }
    // What makes the top bit of a byte set if the byte is at least the shortest push that reaches: one more for each byte
    // that is nearer, which are the higher ones. No byte carries into the next, since none is more than 127 before.
    let mut lift = (LONGEST - last.len()) as u32 * EACH - 0x0001_0203;
    let mut reaching = 0;
    let mut look_at = |word: u32, lift: u32| {
        let word = u32::from_le(word);
        reaching |= (word & (0x7f * EACH)).wrapping_add(lift) & !word;
    };
    let [farthest, words @ ..] = words;
    for word in words.iter().rev() {
        look_at(*word, lift);
        lift = lift.wrapping_sub(4 * EACH);
    }
    // Some of its bytes are too far away: all are taken to be as near as the nearest.
    look_at(*farthest, lift.wrapping_add(0x0001_0203));
    reaching & (0x80 * EACH) == 0
}

/// Whether an instruction starts at `at`: whether no push before it has it in its operand. A byte that looks like such a
/// push is one if an instruction starts there. `None` if there are more of those than `suspects`.
fn starts_instruction(code: &[u8], at: usize, suspects: &mut u32) -> Option<bool> {
    let before = &code[at.saturating_sub(LONGEST)..at];
    for (distance, byte) in before.iter().rev().enumerate() {
        if looks_like_push_over(*byte, distance) {
            *suspects = suspects.checked_sub(1)?;
            if starts_instruction(code, at - 1 - distance, suspects)? {
                return Some(false);
            }
        }
    }
    Some(true)
}

/// Whether the byte looks like a push of more than `distance` bytes, which is less than 32.
#[inline(always)]
fn looks_like_push_over(byte: u8, distance: usize) -> bool {
    // A push of so many bytes less than 32, if it is one.
    let less = u32::from(opcode::PUSH32).wrapping_sub(u32::from(byte)) as usize;
    less < LONGEST - distance
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn in_place_and_by_revm_a_code_is_the_same(
            code in prop::collection::vec(
                prop_oneof![Just(opcode::JUMPDEST), 0x58u8..0x80, 0xe5u8..0xe9, any::<u8>()],
                0..200,
            ),
        ) {
            let mut padded = code.clone();
            padded.resize(code.len() + PADDING, 0);
            let owner = Bytes::from(padded);
            let ours = PaddedCode { padded: &owner, len: code.len() };
            for owner in [None, Some(&owner)] {
                let (ours, theirs) = (ours.bytecode(owner), bytecode(&code));
                prop_assert_eq!(ours.original_bytes(), theirs.original_bytes());
                prop_assert!(theirs.bytes_slice().len() <= ours.bytes_slice().len());
                prop_assert!(!is_unsearched(&theirs) && is_unsearched(&ours) != code.is_empty());
            }
        }

        /// Whatever is asked for, in whatever order.
        #[test]
        fn a_search_finds_what_revm_finds(
            code in prop::collection::vec(
                prop_oneof![
                    3 => Just(opcode::JUMPDEST),
                    1 => Just(opcode::PUSH32),
                    1 => 0x58u8..0x80,
                    1 => any::<u8>(),
                ],
                1..700,
            ),
            asked in prop::collection::vec(0usize..720, 0..100),
            all in any::<bool>(),
            before in 0_usize..4,
        ) {
            let table = Bytecode::new_legacy(code.clone().into());
            let table = table.legacy_jump_table().unwrap();
            // Wherever it lies in a word.
            let placed = [&[opcode::PUSH32; 3][..before], &code].concat();
            let code = &placed[before..];
            let mut search = Search::default();
            let every = if all { 0..code.len() + 3 } else { 0..0 };
            for at in asked.into_iter().chain(every) {
                prop_assert_eq!(search.is_destination(code, at), table.is_valid(at), "{}", at);
            }
        }
    }

    /// Nor does the other way round fail often: by one byte before, wherever it is.
    #[test]
    fn what_is_clear_at_a_glance_is_true() {
        for at in 32..40 {
            for place in 0..at {
                for byte in 0..=u8::MAX {
                    let mut code = vec![0_u32; 10];
                    let code: &mut [u8] = bytemuck::cast_slice_mut(&mut code);
                    code[place] = byte;
                    let reaches = at - place <= 32 && looks_like_push_over(byte, at - 1 - place);
                    let glance = starts_clearly(code, at);
                    assert!(!(glance && reaches), "{at} {place} {byte:x}");
                    assert!(
                        glance || reaches || (at - place > 28 && byte >> 2 == 31),
                        "{at} {place} {byte:x}"
                    );
                    // Where it is not on a word, nothing is clear.
                    assert!(!starts_clearly(&code[1..], at - 1));
                }
            }
        }
    }

    #[test]
    fn codes_are_unsearched_whatever_their_length() {
        for len in [1, 7, 8, 9, 24_576, 32_760, 32_768, 100_000] {
            let padded = vec![opcode::JUMPDEST; len + PADDING];
            assert!(is_unsearched(&PaddedCode { padded: &padded, len }.bytecode(None)), "{len}");
        }
    }

    #[test]
    fn no_code_makes_a_search_long() {
        // Each byte may belong to the push before it.
        let suspicious = [[opcode::PUSH32; 40].as_slice(), &[opcode::JUMPDEST]].concat();
        let code = suspicious.repeat(600);
        let table = Bytecode::new_legacy(code.clone().into());
        let mut search = Search::default();
        for at in (0..code.len()).filter(|at| code[*at] == opcode::JUMPDEST) {
            assert_eq!(starts_instruction(&code, at, &mut { SUSPECTS }), None);
            let before = search.searched;
            let is_destination = table.legacy_jump_table().unwrap().is_valid(at);
            assert_eq!(search.is_destination(&code, at), is_destination);
            // It goes on where it was, and not beyond the instruction there.
            assert!((at + 1..=at + 33).contains(&search.searched) && search.searched > before);
        }
    }
}
