//! Compares each response of the admin API with the OpenAPI document, so that neither says more or less than the other.

use http::{Method, StatusCode};
use serde_json::{Value, json};

const OPENAPI_DOCUMENT: &str = include_str!("../api/openapi.json");

/// Panics if the document does not describe this response of `path`.
pub fn assert_described(method: &Method, path: &str, status: StatusCode, response: &Value) {
    let mut document: Value = serde_json::from_str(OPENAPI_DOCUMENT).unwrap();
    let path = path.split('?').next().unwrap_or_default();
    let Some(template) = find_template(&document, path) else { return };
    let responses = format!("/paths/{}/{}/responses", escape(&template), method.as_str().to_lowercase());
    // A method that the path has not is refused for all paths alike.
    if document.pointer(&responses).is_none() {
        return;
    }
    let mut described = format!("{responses}/{}", status.as_u16());
    let entry = document.pointer(&described);
    let entry = entry.unwrap_or_else(|| panic!("{method} {path}: {status} is not described: {response}"));
    if let Some(reference) = entry["$ref"].as_str() {
        described = reference.trim_start_matches('#').to_owned();
    }
    forbid_other_properties(&mut document);
    let schema = document.pointer(&format!("{described}/content/application~1json/schema")).cloned();
    // References in the schema are into the document, so the document is its root. Braces of a path cannot be in a reference.
    document["components"]["schemas"]["OfThisResponse"] = schema.expect("a schema for JSON");
    document["$ref"] = json!("#/components/schemas/OfThisResponse");
    let validator = jsonschema::draft202012::new(&document).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(response).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{method} {path} {status}: {problems:#?}\n{response:#}");
}

/// The path of the document that matches a request's path.
fn find_template(document: &Value, path: &str) -> Option<String> {
    let matches = |template: &&String| {
        let (mut parts, mut actual) = (template.split('/'), path.split('/'));
        loop {
            match (parts.next(), actual.next()) {
                (None, None) => return true,
                (Some(part), Some(text)) if part.starts_with('{') || part == text => {}
                _ => return false,
            }
        }
    };
    document["paths"].as_object()?.keys().find(matches).cloned()
}

/// The text as one part of a JSON pointer (RFC 6901 section 3).
fn escape(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

/// A property that the document does not name is an error too, unless an object has only properties that nobody can name.
fn forbid_other_properties(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("type") == Some(&json!("object")) && members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(forbid_other_properties);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_other_properties),
        _ => {}
    }
}
