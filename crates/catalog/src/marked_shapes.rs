//! Marks the shapes whose values a reader must look at: parts of the shape tree without a mark cost a masker nothing.

use crate::service_model::{ModelShape, ReturnedMember, ServiceModel, ShapeId, ShapeKind, ShapeMember};

impl ServiceModel {
    /// Computes [`ModelShape::has_marked_values`] of all shapes. It comes after [`ServiceModel::mark_returned_members`].
    pub fn mark_shapes(&mut self) {
        for shape in &mut self.shapes {
            shape.has_marked_values = has_own_mark(shape);
        }
        // Most shapes come after those that use them, so the backward pass settles in a few rounds.
        let mut settled = false;
        while !settled {
            settled = true;
            for at in (0..self.shapes.len()).rev() {
                let is_marked = |id: ShapeId| self.shape(id).is_some_and(|shape| shape.has_marked_values);
                let newly_marked = self
                    .shapes
                    .get(at)
                    .is_some_and(|shape| !shape.has_marked_values && shape.child_shapes().any(is_marked));
                if let Some(shape) = self.shapes.get_mut(at)
                    && newly_marked
                {
                    shape.has_marked_values = true;
                    settled = false;
                }
            }
        }
    }
}

impl ShapeMember {
    /// Returns true if the member is an access key id, which identifies a key and gives nothing away.
    pub fn is_access_key_id(&self) -> bool {
        self.name.eq_ignore_ascii_case("AccessKeyId")
    }
}

fn has_own_mark(shape: &ModelShape) -> bool {
    shape.is_sensitive
        || match &shape.kind {
            ShapeKind::Structure { members, .. } => members.iter().any(|member| {
                member.is_sensitive || member.is_access_key_id() || member.returned != ReturnedMember::No
            }),
            ShapeKind::Blob { .. } | ShapeKind::Document => true,
            _ => false,
        }
}
