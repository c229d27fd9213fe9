//! The permissions that an operation requires by the catalog: its IAM actions, each on the resources that the parameters name.
//!
//! Promise: where the parameters do not fill a template, the permission is on any resource (`*`), never left out.

use super::request::RequestScope;
use durward_catalog::{ArnTemplate, OperationModel, RequiredAction, ServiceModel};
use durward_core::{AccessLevel, Arn, RequiredPermission, Resource};
use serde_json::{Map, Value};

/// With more combinations of list items than this, the permission is on any resource: two lists of a thousand names would make a
/// million ARNs.
const MAX_ARNS_PER_ACTION: usize = 1_000;

/// Everything that the required permissions of a request depend on.
pub(super) struct PermissionContext<'a> {
    pub partition: &'a str,
    pub scope: &'a RequestScope<'a>,
    pub service: &'a ServiceModel,
    pub operation_model: &'a OperationModel,
    /// Without the parameters that the model does not know.
    pub parameters: &'a Map<String, Value>,
}

impl PermissionContext<'_> {
    /// A top-level parameter that is a non-empty string.
    pub(super) fn text_parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Returns true if a path leads to a parameter, in any item of a list.
    pub(super) fn has_parameter(&self, path: &str) -> bool {
        is_present(self.parameters, path)
    }

    /// The items of a top-level list.
    pub(super) fn list_parameter(&self, name: &str) -> &[Value] {
        self.parameters.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// An ARN in the connection's account and the request's region.
    pub(super) fn build_arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition, self.scope.region, self.scope.account)
    }

    /// `value` when it is an ARN already, else the ARN of `<prefix><value>`.
    pub(super) fn resolve_arn(&self, service: &str, prefix: &str, value: &str) -> String {
        if value.starts_with("arn:") {
            value.to_owned()
        } else {
            self.build_arn(service, &format!("{prefix}{value}"))
        }
    }

    /// The catalog's required actions that apply to these parameters.
    pub(super) fn applicable_actions(&self) -> impl Iterator<Item = &RequiredAction> {
        self.operation_model.required_actions.iter().filter(|required_action| {
            required_action.required_if_member.as_deref().is_none_or(|member| self.has_parameter(member))
        })
    }

    /// The catalog's access level for an action of this operation, or `otherwise`.
    pub(super) fn access_level(&self, action: &str, otherwise: AccessLevel) -> AccessLevel {
        self.operation_model
            .required_actions
            .iter()
            .find(|required_action| required_action.action == action)
            .map_or(otherwise, |required_action| required_action.access_level)
    }
}

/// The permission for an action on one ARN.
pub(super) fn permission_on_arn(action: &str, access_level: AccessLevel, arn: String) -> RequiredPermission {
    RequiredPermission { action: action.to_owned(), resource: Resource::Arn(arn), access_level }
}

/// The permission for an action on any resource.
pub(super) fn permission_on_any(action: &str, access_level: AccessLevel) -> RequiredPermission {
    RequiredPermission { action: action.to_owned(), resource: Resource::Any, access_level }
}

/// The required permissions by the catalog's templates alone.
pub(super) fn permissions_by_templates(context: &PermissionContext<'_>) -> Vec<RequiredPermission> {
    let mut out = Vec::new();
    for required_action in context.applicable_actions() {
        push_template_permissions(context, required_action, &mut out);
    }
    out
}

/// Adds the permissions for one action by its templates. Templates that the request fills only in part count when it fills
/// none completely; their open parts become `*`.
pub(super) fn push_template_permissions(
    context: &PermissionContext<'_>,
    required_action: &RequiredAction,
    out: &mut Vec<RequiredPermission>,
) {
    let mut arns: Vec<String> = Vec::new();
    let mut complete = true;
    // Complete templates first: `table/*` beside `table/orders` would make policy decide about every table.
    for open in [UnfilledPlaceholder::Skip, UnfilledPlaceholder::Wildcard] {
        for template in &required_action.resources {
            // The action is required only because of this member: an item without it needs no permission.
            let is_optional =
                template.arn_member.is_some() && template.arn_member == required_action.required_if_member;
            complete &= fill_template(context, template, open, &mut arns) || is_optional;
        }
        if !arns.is_empty() {
            break;
        }
    }
    // Beside the ARNs that were found: an item that named none could be any resource.
    if arns.is_empty() || !complete || arns.len() > MAX_ARNS_PER_ACTION {
        out.push(permission_on_any(&required_action.action, required_action.access_level));
    }
    if arns.len() <= MAX_ARNS_PER_ACTION {
        out.extend(
            arns.into_iter()
                .map(|arn| permission_on_arn(&required_action.action, required_action.access_level, arn)),
        );
    }
}

/// The permissions for the service's own actions (those that begin with `own_prefix`) on `arns`, and for the actions of other
/// services by the templates.
pub(super) fn permissions_on_arns(
    context: &PermissionContext<'_>,
    own_prefix: &str,
    arns: &[String],
) -> Vec<RequiredPermission> {
    let mut out = Vec::new();
    for required_action in context.applicable_actions() {
        if required_action.action.starts_with(own_prefix) {
            let RequiredAction { action, access_level, .. } = required_action;
            out.extend(arns.iter().map(|arn| permission_on_arn(action, *access_level, arn.clone())));
        } else {
            push_template_permissions(context, required_action, &mut out);
        }
    }
    out
}

/// The treatment of a placeholder that the request does not fill.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnfilledPlaceholder {
    /// Drop the template.
    Skip,
    /// Write `*`, provided that the request fills another placeholder.
    Wildcard,
}

/// Adds the ARNs of a template. Returns false when a list held items that name no resource.
fn fill_template(
    context: &PermissionContext<'_>,
    template: &ArnTemplate,
    open: UnfilledPlaceholder,
    arns: &mut Vec<String>,
) -> bool {
    let mut complete = true;
    if let Some(path) = &template.arn_member {
        let found = collect_values(context.parameters, path);
        let mut whole: Vec<String> =
            found.texts.iter().filter(|text| text.starts_with("arn:")).cloned().collect();
        if !whole.is_empty() {
            // In a mixed list, the other items are names that this template cannot turn into ARNs.
            complete &= found.is_complete && whole.len() == found.texts.len();
            arns.append(&mut whole);
            return complete;
        }
    }
    let mut partial = vec![String::new()];
    let mut named = 0;
    let mut rest = template.template.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { return complete };
        let connection = match name {
            "Partition" => Some(context.partition),
            "Region" => Some(context.scope.region),
            "Account" => Some(context.scope.account),
            _ => None,
        };
        let mut found = match (
            connection,
            template.placeholder_members.iter().find(|(placeholder, _)| placeholder == name),
        ) {
            (Some(text), _) => PathValues::single(text),
            (None, Some((_, path))) => collect_values(context.parameters, path),
            (None, None) => PathValues { texts: Vec::new(), is_complete: true },
        };
        if connection.is_none() {
            named += usize::from(!found.texts.is_empty());
        }
        if found.texts.is_empty() && open == UnfilledPlaceholder::Wildcard {
            found.texts.push("*".to_owned());
        }
        if found.texts.is_empty() || partial.len().saturating_mul(found.texts.len()) > MAX_ARNS_PER_ACTION {
            return complete && found.is_complete && found.texts.is_empty();
        }
        complete &= found.is_complete;
        if connection.is_none() && has_placeholder(tail) {
            // A placeholder before the last names the outer resource (`cluster`), which may be given as its ARN.
            let outer = |text: &&mut String| {
                text.starts_with("arn:") && !matches_template_type(&template.template, text)
            };
            for text in found.texts.iter_mut().filter(outer) {
                let (name, is_ours) = name_in_outer_arn(context, text);
                // An outer resource of another account cannot be written into an ARN of ours: the permission is on any
                // resource, too.
                complete &= is_ours;
                *text = name;
            }
        }
        // An ARN in place of a name is the resource itself.
        let (whole, names): (Vec<&String>, Vec<&String>) =
            found.texts.iter().partition(|text| text.starts_with("arn:"));
        arns.extend(whole.into_iter().cloned());
        if names.is_empty() {
            return complete;
        }
        partial = partial
            .iter()
            .flat_map(|start| names.iter().map(move |value| format!("{start}{before}{value}")))
            .collect();
        rest = tail;
    }
    if open == UnfilledPlaceholder::Wildcard && named == 0 {
        return complete;
    }
    arns.extend(partial.into_iter().map(|start| start + rest));
    complete
}

/// Returns true if the rest of a template has a placeholder that a request fills.
fn has_placeholder(rest: &str) -> bool {
    rest.split("${").skip(1).any(|part| {
        !["Partition}", "Region}", "Account}"].iter().any(|connection| part.starts_with(connection))
    })
}

/// Returns true if an ARN has the resource type of a template and at least as many parts: `stack/name/id`, not `stack/name`.
fn matches_template_type(template: &str, arn: &str) -> bool {
    let parts = |text: &str| text.matches(['/', ':']).count();
    let [wanted, given] = [template, arn].map(|text| Arn::parse(text).map_or("", |arn| arn.resource));
    let kind = wanted.split("${").next().unwrap_or_default();
    given.starts_with(kind) && parts(given) >= parts(wanted)
}

/// The name in the ARN of an outer resource (`cluster/prod`), and whether it is in the connection's account and region.
fn name_in_outer_arn(context: &PermissionContext<'_>, arn: &str) -> (String, bool) {
    let Some(fields) = Arn::parse(arn) else { return ("*".to_owned(), false) };
    let differs = |theirs: &str, ours: &str| !theirs.is_empty() && theirs != ours;
    let is_ours =
        !differs(fields.account, context.scope.account) && !differs(fields.region, context.scope.region);
    match fields.resource.split_once(['/', ':']) {
        Some((_kind, name)) if !name.is_empty() => (name.to_owned(), is_ours),
        _ => ("*".to_owned(), false),
    }
}

/// Returns true if a path leads to a value other than null.
fn is_present(object: &Map<String, Value>, path: &str) -> bool {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let name = step.trim_end_matches("[]").trim_end_matches("{}");
    let below = |value: &Value| match value {
        Value::Null => false,
        _ if rest.is_empty() => true,
        Value::Object(inner) => is_present(inner, rest),
        _ => false,
    };
    match object.get(name) {
        Some(Value::Array(items)) if step.ends_with("[]") => items.iter().any(below),
        Some(Value::Object(map)) if step.ends_with("{}") => map.values().any(below),
        Some(value) => below(value),
        None => false,
    }
}

struct PathValues {
    texts: Vec<String>,
    is_complete: bool,
}

impl PathValues {
    fn single(text: &str) -> Self {
        Self { texts: vec![text.to_owned()], is_complete: true }
    }
}

/// The texts that a path leads to: `Name`, `A.B`, `Items[].Name`, `Tables{}` (the keys), `Tables{}.Name` (in the values).
fn collect_values(parameters: &Map<String, Value>, path: &str) -> PathValues {
    let mut out = PathValues { texts: Vec::new(), is_complete: true };
    descend_member(parameters, path, &mut out, false);
    out
}

/// `expected`: the object is an item of a list or map, so an absent member means an item that names nothing.
fn descend_member(object: &Map<String, Value>, path: &str, out: &mut PathValues, expected: bool) {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let name = step.trim_end_matches("[]").trim_end_matches("{}");
    let Some(value) = object.get(name).filter(|value| !value.is_null()) else {
        out.is_complete &= !expected;
        return;
    };
    if step.ends_with("{}") {
        let Value::Object(map) = value else {
            out.is_complete = false;
            return;
        };
        for (key, item) in map {
            if rest.is_empty() { out.texts.push(key.clone()) } else { descend_item(item, rest, out) }
        }
    } else if let Value::Array(items) = value {
        for item in items {
            descend_item(item, rest, out);
        }
    } else if step.ends_with("[]") {
        out.is_complete = false;
    } else if rest.is_empty() {
        push_leaf(value, out, expected);
    } else if let Value::Object(inner) = value {
        descend_member(inner, rest, out, expected);
    } else {
        out.is_complete = false;
    }
}

fn descend_item(item: &Value, rest: &str, out: &mut PathValues) {
    if rest.is_empty() {
        push_leaf(item, out, true);
    } else if let Value::Object(inner) = item {
        descend_member(inner, rest, out, true);
    } else {
        out.is_complete = false;
    }
}

fn push_leaf(value: &Value, out: &mut PathValues, expected: bool) {
    match value {
        Value::String(text) if !text.is_empty() => out.texts.push(text.clone()),
        Value::String(_) => out.is_complete &= !expected,
        Value::Number(number) => out.texts.push(number.to_string()),
        Value::Bool(value) => out.texts.push(value.to_string()),
        _ => out.is_complete = false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn collect_texts(parameters: &Value, path: &str) -> (Vec<String>, bool) {
        let found = collect_values(parameters.as_object().unwrap(), path);
        (found.texts, found.is_complete)
    }

    #[test]
    fn follows_paths_through_lists_and_maps() {
        let parameters = json!({
            "Name": "n", "Names": ["a", "b"], "Entries": [{"Q": "x"}, {"Q": "y"}],
            "Tables": {"t1": {"A": 1}, "t2": {}}, "Deep": {"Inner": {"Id": 7}}, "Empty": "",
        });
        assert_eq!(collect_texts(&parameters, "Name"), (vec!["n".into()], true));
        assert_eq!(collect_texts(&parameters, "Names[]"), (vec!["a".into(), "b".into()], true));
        assert_eq!(collect_texts(&parameters, "Names"), (vec!["a".into(), "b".into()], true));
        assert_eq!(collect_texts(&parameters, "Entries[].Q"), (vec!["x".into(), "y".into()], true));
        assert_eq!(collect_texts(&parameters, "Tables{}"), (vec!["t1".into(), "t2".into()], true));
        assert_eq!(collect_texts(&parameters, "Deep.Inner.Id"), (vec!["7".into()], true));
        assert_eq!(collect_texts(&parameters, "Empty"), (vec![], true));
        assert_eq!(collect_texts(&parameters, "Absent"), (vec![], true));
    }

    #[test]
    fn reports_an_item_that_names_nothing() {
        let parameters = json!({"Entries": [{"Q": "x"}, {}], "Names": ["a", {}], "Tables": ["x"]});
        assert!(!collect_texts(&parameters, "Entries[].Q").1);
        assert!(!collect_texts(&parameters, "Names[]").1);
        assert!(!collect_texts(&parameters, "Tables{}").1);
    }
}
