//! The links that lead approvers to an approval request, and the text with which a refusal names one.

use durward_approval::ApprovalRequestId;

/// Links into the console, if there is one that callers' people can reach.
#[derive(Debug, Clone, Default)]
pub struct ApprovalLinks {
    console_url: Option<String>,
}

impl ApprovalLinks {
    pub fn new(console_url: Option<String>) -> Self {
        Self { console_url: console_url.map(|url| url.trim_end_matches('/').to_owned()) }
    }

    /// The page on which approvers see the request and vote.
    pub fn page_url(&self, id: ApprovalRequestId) -> Option<String> {
        self.console_url.as_ref().map(|console| format!("{console}/approvals/{id}"))
    }

    /// The request as a refusal names it.
    pub fn describe(&self, id: ApprovalRequestId) -> String {
        match self.page_url(id) {
            Some(page) => format!("approval request {id} ({page})"),
            None => format!("approval request {id}"),
        }
    }
}
