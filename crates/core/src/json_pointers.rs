//! Removal of members of a JSON object by JSON Pointer (RFC 6901).

use serde_json::{Map, Value};
use std::borrow::Cow;

/// The parameters without the members that these JSON Pointers name. The pointers name the parts that no model describes. Whether
/// the service reads such a part is unknown, so no policy and no tag may rely on it. Text that is no pointer is ignored.
pub fn remove_json_pointers<'a>(
    parameters: &'a Map<String, Value>,
    pointers: &[String],
) -> Cow<'a, Map<String, Value>> {
    // Most operations have no such part, and then nothing is copied.
    let mut remaining = Cow::Borrowed(parameters);
    for pointer in pointers {
        let Some(path) = pointer.strip_prefix('/') else { continue };
        let (parent, name) =
            path.rsplit_once('/').map_or((None, path), |(parent, name)| (Some(parent), name));
        let name = unescape_pointer_token(name);
        let members = match parent {
            None => Some(remaining.to_mut()),
            Some(parent) => find_object_mut(remaining.to_mut(), parent),
        };
        members.and_then(|members| members.remove(&name));
    }
    remaining
}

fn find_object_mut<'v>(
    members: &'v mut Map<String, Value>,
    path: &str,
) -> Option<&'v mut Map<String, Value>> {
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = members.get_mut(&unescape_pointer_token(first))?;
    match rest {
        None => value.as_object_mut(),
        Some(rest) => value.pointer_mut(&format!("/{rest}"))?.as_object_mut(),
    }
}

fn unescape_pointer_token(token: &str) -> String {
    // In this order: `~01` is `~1` and not `/` (RFC 6901 section 4).
    token.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn removes_members_at_any_depth() {
        let whole = json!({"a": 1, "x/y": 2, "b": {"c": [{"d": 1, "e~": 2}, {"d": 3}]}, "f": {}, "~1": 4});
        let pointers =
            ["body", "/x~1y", "/b/c/0/e~0", "/f", "/none", "/b/none/at/all", "/~01"].map(str::to_owned);
        let remaining = remove_json_pointers(whole.as_object().unwrap(), &pointers);
        assert_eq!(Value::Object(remaining.into_owned()), json!({"a": 1, "b": {"c": [{"d": 1}, {"d": 3}]}}));
        let untouched = remove_json_pointers(whole.as_object().unwrap(), &["body".to_owned()]);
        assert!(matches!(untouched, Cow::Borrowed(_)));
    }
}
