//! A copy of a body with some ranges replaced. Nothing is copied until the first replacement.

use std::ops::Range;

pub(crate) struct Patch<'b> {
    source: &'b [u8],
    out: Vec<u8>,
    /// Bytes of `source` already accounted for in `out`.
    taken: usize,
    changed: bool,
}

impl<'b> Patch<'b> {
    pub(crate) fn new(source: &'b [u8]) -> Self {
        Self { source, out: Vec::new(), taken: 0, changed: false }
    }

    /// Ranges must come in order and not overlap, which a forward scan guarantees.
    pub(crate) fn replace(&mut self, range: Range<usize>, with: &[u8]) {
        debug_assert!(self.taken <= range.start && range.start <= range.end);
        if !self.changed {
            self.changed = true;
            self.out.reserve(self.source.len());
        }
        self.out.extend_from_slice(self.source.get(self.taken..range.start).unwrap_or_default());
        self.out.extend_from_slice(with);
        self.taken = range.end;
    }

    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        self.out.extend_from_slice(self.source.get(self.taken..).unwrap_or_default());
        Some(self.out)
    }
}
