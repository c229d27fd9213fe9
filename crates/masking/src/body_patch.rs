//! A copy of a body with some ranges replaced. Nothing is copied until the end.

use std::ops::Range;

pub(crate) struct BodyPatch<'b> {
    source: &'b [u8],
    replacements: Vec<(Range<usize>, Vec<u8>)>,
}

impl<'b> BodyPatch<'b> {
    pub(crate) fn new(source: &'b [u8]) -> Self {
        Self { source, replacements: Vec::new() }
    }

    /// Ranges must not overlap. A range before those that were replaced must be inside the structure that is being read.
    pub(crate) fn replace(&mut self, range: Range<usize>, with: Vec<u8>) {
        debug_assert!(range.start <= range.end);
        self.replacements.push((range, with));
    }

    /// The number of replacements so far.
    pub(crate) fn replacement_count(&self) -> usize {
        self.replacements.len()
    }

    /// A part of the patched copy, which no replacement crosses. Nothing behind its structure was replaced yet.
    pub(crate) fn render(&self, range: Range<usize>) -> Vec<u8> {
        let behind = self.replacements.iter().rev().take_while(|(replaced, _)| replaced.start >= range.start);
        let mut inside: Vec<&(Range<usize>, Vec<u8>)> =
            behind.filter(|(replaced, _)| replaced.end <= range.end).collect();
        inside.sort_by_key(|(replaced, _)| replaced.start);
        copy_replacing(self.source, range, &inside)
    }

    /// The patched copy; `None` without a replacement.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.replacements.is_empty() {
            return None;
        }
        self.replacements.sort_by_key(|(range, _)| range.start);
        debug_assert!(self.replacements.is_sorted_by(|(one, _), (next, _)| one.end <= next.start));
        let all: Vec<&(Range<usize>, Vec<u8>)> = self.replacements.iter().collect();
        Some(copy_replacing(self.source, 0..self.source.len(), &all))
    }
}

fn copy_replacing(source: &[u8], range: Range<usize>, replacements: &[&(Range<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut output = Vec::with_capacity(range.len());
    let mut copied_until = range.start;
    for (replaced, with) in replacements {
        output.extend_from_slice(source.get(copied_until..replaced.start).unwrap_or_default());
        output.extend_from_slice(with);
        copied_until = replaced.end;
    }
    output.extend_from_slice(source.get(copied_until..range.end).unwrap_or_default());
    output
}
