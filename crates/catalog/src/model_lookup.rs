//! Lookups on one service of the model. Operations are sorted by name in the index, so a lookup is a binary search.

use crate::service_model::{ModelShape, OperationModel, ServiceModel, ShapeId, ShapeKind, ShapeMember};

impl ServiceModel {
    /// The operation called `name`, exactly as the model spells it.
    pub fn operation(&self, name: &str) -> Option<&OperationModel> {
        self.operations.get(self.operation_index(name)?)
    }

    /// The position of the operation called `name`.
    pub fn operation_index(&self, name: &str) -> Option<usize> {
        self.operations.binary_search_by(|operation| operation.name.as_str().cmp(name)).ok()
    }

    /// The shape with this id. Ids come from this service's operations and shapes only, so `None` means the id is another's.
    pub fn shape(&self, id: ShapeId) -> Option<&ModelShape> {
        self.shapes.get(usize::try_from(id).ok()?)
    }

    /// The members of the structure `id`; empty when it is no structure.
    pub fn structure_members(&self, id: ShapeId) -> &[ShapeMember] {
        match self.shape(id).map(|shape| &shape.kind) {
            Some(ShapeKind::Structure { members, .. }) => members,
            _ => &[],
        }
    }

    /// The member of the structure `id` with this model name.
    pub fn find_member(&self, id: ShapeId, name: &str) -> Option<&ShapeMember> {
        self.structure_members(id).iter().find(|member| member.name == name)
    }
}
