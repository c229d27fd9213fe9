//! Why a person cannot approve a request, in words for them. The rules are those of the approval crate, which applies them
//! again when the vote is cast.

use durward_approval::{ApprovalRequest, Approver, VoteError};

/// Why this person cannot approve this request, as a sentence. `None`: they can.
pub fn approval_refusal_text(request: &ApprovalRequest, person: &Approver) -> Option<String> {
    Some(match request.approval_refusal(person)? {
        VoteError::OwnRequest(_) => {
            "This is your own request, or that of an agent acting for you. Somebody else must vote on it."
                .to_owned()
        }
        VoteError::AlreadyApproved => "You approved this request. You can still deny it.".to_owned(),
        VoteError::NotAnApprover(approvers) => format!("Only {approvers} may vote on this request."),
        other => other.to_string(),
    })
}
