//! Lookups in the model of one service. The index has operations sorted by name, so a lookup is a binary search.

use crate::service_model::{ModelShape, OperationModel, ServiceModel, ShapeId, ShapeKind, ShapeMember};

impl ServiceModel {
    /// The operation with this name, exactly as the model spells it.
    pub fn operation(&self, name: &str) -> Option<&OperationModel> {
        self.operations.get(self.operation_index(name)?)
    }

    /// The index of the operation with this name.
    pub fn operation_index(&self, name: &str) -> Option<usize> {
        self.operations.binary_search_by(|operation| operation.name.as_str().cmp(name)).ok()
    }

    /// The shape with this id. `None` if the id is of another service.
    pub fn shape(&self, id: ShapeId) -> Option<&ModelShape> {
        self.shapes.get(usize::try_from(id).ok()?)
    }

    /// These shapes and all below them, each once.
    pub fn reachable_shapes(&self, roots: impl IntoIterator<Item = ShapeId>) -> Vec<&ModelShape> {
        let mut reachable = Vec::new();
        let mut seen = vec![false; self.shapes.len()];
        let mut pending: Vec<ShapeId> = roots.into_iter().collect();
        while let Some(id) = pending.pop() {
            match seen.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            if let Some(shape) = self.shape(id) {
                pending.extend(shape.child_shapes());
                reachable.push(shape);
            }
        }
        reachable
    }

    /// The members of the structure with this id. Empty if the shape is no structure.
    pub fn structure_members(&self, id: ShapeId) -> &[ShapeMember] {
        match self.shape(id).map(|shape| &shape.kind) {
            Some(ShapeKind::Structure { members, .. }) => members,
            _ => &[],
        }
    }

    /// The member with this model name in the structure with this id.
    pub fn find_member(&self, id: ShapeId, name: &str) -> Option<&ShapeMember> {
        self.structure_members(id).iter().find(|member| member.name == name)
    }
}

impl ModelShape {
    /// The shapes of its members, items, keys and values.
    pub(crate) fn child_shapes(&self) -> impl Iterator<Item = ShapeId> + '_ {
        let (members, one, two): (&[ShapeMember], Option<ShapeId>, Option<ShapeId>) = match &self.kind {
            ShapeKind::Structure { members, .. } => (members, None, None),
            ShapeKind::List { member, .. } => (&[], Some(*member), None),
            ShapeKind::Map { key, value, .. } => (&[], Some(*key), Some(*value)),
            _ => (&[], None, None),
        };
        members.iter().map(|member| member.shape).chain(one).chain(two)
    }
}
