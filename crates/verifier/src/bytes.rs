//! Bytes from outside, read from front to back.

use crate::VerifyError;

/// A proof or a plan being read. What it returns borrows the bytes, and no length in them takes memory.
pub(crate) struct Bytes<'a> {
    all: &'a [u8],
    offset: usize,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(all: &'a [u8]) -> Self {
        Self { all, offset: 0 }
    }

    /// Whether everything has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.offset == self.all.len()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], VerifyError> {
        let rest = &self.all[self.offset..];
        let taken = rest.get(..length).ok_or_else(|| self.malformed("it ends early"))?;
        self.offset += length;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], VerifyError> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, VerifyError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u32, VerifyError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn length(&mut self) -> Result<usize, VerifyError> {
        let length = self.number()?;
        usize::try_from(length).map_err(|_| self.malformed("a length beyond this machine's"))
    }

    /// The kind that an envelope names after its `magic` and its `version`: one of `kinds`. `foreign` says of bytes that begin otherwise
    /// what they are not.
    pub(crate) fn kind(
        &mut self,
        magic: &[u8; 4],
        foreign: &'static str,
        version: u8,
        kinds: &[u8],
    ) -> Result<u8, VerifyError> {
        self.version(magic, foreign, version)?;
        let kind = self.byte()?;
        if kinds.contains(&kind) { Ok(kind) } else { Err(self.malformed("unknown kind")) }
    }

    /// Reads `magic` and `version`.
    pub(crate) fn version(
        &mut self,
        magic: &[u8; 4],
        foreign: &'static str,
        version: u8,
    ) -> Result<(), VerifyError> {
        if self.array()? != *magic {
            return Err(self.malformed(foreign));
        }
        if self.byte()? != version {
            return Err(self.malformed("unknown version"));
        }
        Ok(())
    }

    pub(crate) fn malformed(&self, what: &'static str) -> VerifyError {
        VerifyError::Malformed { what, offset: self.offset }
    }
}
