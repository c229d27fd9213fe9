//! AWS WAF: requests call the scope `REGIONAL` or `CLOUDFRONT`, ARNs call it `regional` or `global`.

use super::super::permission_templates::{PermissionContext, permissions_by_templates};
use durward_core::{Refusal, RequiredPermission, Resource};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let (in_request, in_arn) = match context.text_parameter("Scope") {
        Some("REGIONAL") => (":REGIONAL/", ":regional/"),
        Some("CLOUDFRONT") => (":CLOUDFRONT/", ":global/"),
        _ => return Ok(None),
    };
    let mut permissions = permissions_by_templates(context);
    for permission in &mut permissions {
        if let Resource::Arn(arn) = &mut permission.resource {
            *arn = arn.replacen(in_request, in_arn, 1);
        }
    }
    Ok(Some(permissions))
}
