//! Whether a person may vote on an approval request, as far as a page can say in advance. The approval crate decides when the
//! vote is cast.

use durward_approval::{ApprovalRequest, Approver};

/// Why this person cannot approve this request, in a sentence for the page. `None`: they can.
pub fn vote_refusal(request: &ApprovalRequest, person: &Approver) -> Option<String> {
    if is_own_request(request, person) {
        return Some(
            "This is your own request, or that of an agent acting for you. Somebody else must vote on it."
                .to_owned(),
        );
    }
    if request.votes.iter().any(|vote| vote.by.id == person.id) {
        return Some("You have already voted on this request.".to_owned());
    }
    if is_approver(request, person) {
        return None;
    }
    let mut groups: Vec<&str> = request.details.requirements.iter().map(|one| one.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    Some(format!(
        "Members of {} vote on this request, and you are in none of these groups.",
        groups.join(" and ")
    ))
}

/// Whether the person is in a group whose members vote on the request.
pub fn is_approver(request: &ApprovalRequest, person: &Approver) -> bool {
    request.details.requirements.iter().any(|requirement| person.groups.contains(&requirement.group))
}

/// Whether the request is the person's own, or that of an agent acting for them.
pub fn is_own_request(request: &ApprovalRequest, person: &Approver) -> bool {
    let caller = &request.details.caller;
    let is_person = |subject: &String| *subject == person.id || subject.eq_ignore_ascii_case(&person.subject);
    caller.id() == person.id || is_person(&caller.subject) || caller.act.iter().any(is_person)
}
