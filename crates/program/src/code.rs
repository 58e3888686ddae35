//! Contract codes in the form that the EVM needs: with their jump destinations, and with zeros after their end.

use alloc::{vec, vec::Vec};
use alloy_primitives::Bytes;
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

    /// The code for the EVM: a copy, unless it lies in `owner`.
    pub(crate) fn bytecode(&self, owner: Option<&Bytes>) -> Bytecode {
        if self.len == 0 || self.bytes().starts_with(&[0xef, 0x01, 0x00]) {
            return bytecode(self.bytes());
        }
        let padded = match owner {
            Some(owner) => owner.slice_ref(self.padded),
            None => Bytes::copy_from_slice(self.padded),
        };
        let jumps = JumpTable::from_slice(&jump_destinations(self.bytes()), self.len);
        // SOUNDNESS: the table is of these very bytes.
        #[expect(unsafe_code, reason = "revm's constructor for what is already analysed")]
        // SAFETY: the code is followed by as many zeros as its last instruction can take, and STOP.
        unsafe {
            Bytecode::new_analyzed(padded, self.len, jumps)
        }
    }
}

/// Decodes EIP-7702 delegations; everything else is legacy code.
pub(crate) fn bytecode(code: &[u8]) -> Bytecode {
    let bytes = Bytes::copy_from_slice(code);
    Bytecode::new_raw_checked(bytes.clone()).unwrap_or_else(|_| Bytecode::new_legacy(bytes))
}

/// One bit for each byte, lowest bit first: whether the byte is a `JUMPDEST` and not part of a push.
fn jump_destinations(code: &[u8]) -> Vec<u8> {
    const JUMPDEST: i8 = opcode::JUMPDEST.cast_signed();
    const PUSH1: i8 = opcode::PUSH1.cast_signed();
    let mut bits = vec![0; code.len().div_ceil(8)];
    let mut at = 0;
    while let Some(&op) = code.get(at) {
        at += 1;
        // As a signed number: DUP1 and everything above it is negative.
        match op.cast_signed() {
            ..JUMPDEST => {}
            JUMPDEST => bits[(at - 1) / 8] |= 1 << ((at - 1) % 8),
            PUSH1.. => at += usize::from(op - opcode::PUSH0),
            _ => {}
        }
    }
    bits
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
                prop_assert_eq!(ours.legacy_jump_table(), theirs.legacy_jump_table());
                prop_assert!(theirs.bytes_slice().len() <= ours.bytes_slice().len());
            }
        }
    }
}
