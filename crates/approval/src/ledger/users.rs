//! People and their groups in the store.

use crate::ApprovalRequest;
use crate::Approver;
use crate::grant::GroupMembership;
use durward_core::timestamps::to_unix_millis;
use durward_store::{StoreError, StoreTransaction, UserRow};

/// Stores a person unless newer groups are known. Returns the person with the newest groups.
pub(crate) async fn store_approver(
    transaction: &mut StoreTransaction,
    approver: &Approver,
) -> Result<Approver, StoreError> {
    transaction.upsert_user(&user_row(approver)?).await?;
    let stored = transaction.find_user(&approver.id).await?.ok_or(StoreError::NotFound)?;
    Ok(Approver { groups: parse_groups(&stored)?, ..approver.clone() })
}

/// A person as a row of the store.
pub(crate) fn user_row(approver: &Approver) -> Result<UserRow, StoreError> {
    let group_names = serde_json::to_string(&approver.groups)
        .map_err(|error| StoreError::Database(format!("the groups cannot be written as JSON: {error}")))?;
    Ok(UserRow {
        id: approver.id.clone(),
        name: approver.name.clone(),
        subject: approver.subject.clone(),
        group_names,
        groups_as_of: to_unix_millis(approver.groups_as_of),
    })
}

fn parse_groups(user: &UserRow) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(&user.group_names)
        .map_err(|error| StoreError::Corrupt(format!("the groups of {}: {error}", user.id)))
}

/// The current groups of every approver of a request.
pub(super) async fn load_membership(
    transaction: &mut StoreTransaction,
    request: &ApprovalRequest,
) -> Result<GroupMembership, StoreError> {
    let mut membership = GroupMembership::new();
    for vote in request.votes.iter().filter(|vote| vote.is_approval) {
        if let Some(user) = transaction.find_user(&vote.by.id).await? {
            let groups = parse_groups(&user)?;
            membership.insert(user.id, groups);
        }
    }
    Ok(membership)
}
