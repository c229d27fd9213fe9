//! A copy of a body with some ranges replaced. Nothing is copied until the first replacement.

use std::ops::Range;

pub(crate) struct BodyPatch<'b> {
    source: &'b [u8],
    output: Vec<u8>,
    /// The bytes of `source` before this position are copied to `output` or replaced.
    copied_until: usize,
    has_changes: bool,
}

impl<'b> BodyPatch<'b> {
    pub(crate) fn new(source: &'b [u8]) -> Self {
        Self { source, output: Vec::new(), copied_until: 0, has_changes: false }
    }

    /// Ranges must come in order and not overlap, which a forward scan guarantees.
    pub(crate) fn replace(&mut self, range: Range<usize>, with: &[u8]) {
        debug_assert!(self.copied_until <= range.start && range.start <= range.end);
        if !self.has_changes {
            self.has_changes = true;
            self.output.reserve(self.source.len());
        }
        self.output.extend_from_slice(self.source.get(self.copied_until..range.start).unwrap_or_default());
        self.output.extend_from_slice(with);
        self.copied_until = range.end;
    }

    /// The patched copy; `None` without a replacement.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if !self.has_changes {
            return None;
        }
        self.output.extend_from_slice(self.source.get(self.copied_until..).unwrap_or_default());
        Some(self.output)
    }
}
