//! Finds in the model of a service which names its requests take back: [`ReturnedNames`] says by which rules.

use crate::returned_names::{ReturnedNames, ends_in_identifying_word, is_credential_name};
use crate::service_model::{MemberLocation, ReturnedMember, ServiceModel, ShapeId, ShapeKind, ShapeMember};

/// The first words of names of what is left of a request.
const PAGE_WORDS: [&str; 3] = ["next", "last", "unprocessed"];
/// The first words of names of cursors.
const CURSOR_WORDS: [&str; 2] = ["next", "lastEvaluated"];

impl ServiceModel {
    /// Marks the members whose values callers send back to this service.
    // Once for each service: a response asks for each of its members.
    pub fn mark_returned_members(&mut self) {
        let names = find_returned_names(self);
        let is_text: Vec<bool> = (0..).take(self.shapes.len()).map(|id| self.is_string_or_list(id)).collect();
        for shape in &mut self.shapes {
            if let ShapeKind::Structure { members, .. } = &mut shape.kind {
                for member in members {
                    let is_text = is_text.get(member.shape as usize).copied().unwrap_or(false);
                    member.returned = classify_member(member, is_text, &names);
                }
            }
        }
    }

    /// Returns true if the shape is a string or a list of them.
    fn is_string_or_list(&self, shape: ShapeId) -> bool {
        match self.shape(shape).map(|shape| &shape.kind) {
            Some(ShapeKind::String) => true,
            Some(ShapeKind::List { member, .. }) => {
                matches!(self.shape(*member).map(|shape| &shape.kind), Some(ShapeKind::String))
            }
            _ => false,
        }
    }
}

/// Reads the inputs of all operations.
fn find_returned_names(service: &ServiceModel) -> ReturnedNames {
    let mut names: Vec<&str> = Vec::new();
    let inputs = service.operations.iter().filter_map(|operation| operation.input_shape);
    for shape in service.reachable_shapes(inputs) {
        let ShapeKind::Structure { members, .. } = &shape.kind else { continue };
        for member in members {
            if service.is_string_or_list(member.shape) && identifies(member) {
                names.push(&member.name);
                names.extend(member.wire_name.as_deref());
            }
        }
    }
    let templates = service
        .operations
        .iter()
        .flat_map(|operation| &operation.required_actions)
        .flat_map(|action| &action.resources);
    for template in templates {
        let paths = template.placeholder_members.iter().map(|(_, path)| path).chain(&template.arn_member);
        // The keys of a map (`RequestItems{}`) are no member.
        let last = paths.filter_map(|path| path.rsplit('.').next()).filter(|name| !name.ends_with('}'));
        names.extend(last.map(|name| name.trim_end_matches("[]")));
    }
    ReturnedNames::from_names(names)
}

fn classify_member(member: &ShapeMember, is_text: bool, names: &ReturnedNames) -> ReturnedMember {
    let begins_with = |words: &[&str]| words.iter().any(|word| begins_with_word(&member.name, word));
    if !is_text {
        return if begins_with(&PAGE_WORDS) {
            ReturnedMember::WithSameShapeInRequest
        } else {
            ReturnedMember::No
        };
    }
    let is_named =
        names.contains(&member.name) || member.wire_name.as_ref().is_some_and(|name| names.contains(name));
    if is_named || begins_with(&CURSOR_WORDS) { ReturnedMember::Yes } else { ReturnedMember::No }
}

/// Returns true if a name begins with a word and goes on with a capital: `NextToken`, `nextToken`, `next_token`.
fn begins_with_word(name: &str, word: &str) -> bool {
    let (Some(start), Some(rest)) = (name.get(..word.len()), name.get(word.len()..)) else { return false };
    start.eq_ignore_ascii_case(word) && !rest.starts_with(|letter: char| letter.is_ascii_lowercase())
}

fn identifies(member: &ShapeMember) -> bool {
    if member.is_sensitive || is_credential_name(&member.name) {
        return false;
    }
    matches!(member.location, MemberLocation::Uri | MemberLocation::Query)
        || ends_in_identifying_word(&member.name)
}

#[cfg(test)]
mod tests {
    use super::find_returned_names;
    use crate::Catalog;

    #[test]
    fn knows_what_callers_send_back_and_what_they_keep_secret() {
        let is_returned = |service: &str, name: &str| {
            find_returned_names(&Catalog::embedded().service(service).unwrap()).contains(name)
        };
        for (service, name) in [
            ("s3", "Key"),
            ("s3", "UploadId"),
            ("s3", "VersionId"),
            ("sqs", "ReceiptHandle"),
            ("sqs", "QueueUrl"),
            ("sqs", "QueueUrls"),
            ("kinesis", "ShardIterator"),
            ("kinesis", "NextToken"),
            ("stepfunctions", "taskToken"),
            ("dynamodb", "TableName"),
            ("secretsmanager", "SecretId"),
            ("ssm", "PolicyHash"),
        ] {
            assert!(is_returned(service, name), "{service} {name}");
        }
        for (service, name) in [
            ("sqs", "Body"),
            ("secretsmanager", "SecretString"),
            ("ssm", "Value"),
            ("cognito-idp", "AccessToken"),
            ("sts", "SessionToken"),
            ("iam", "SecretAccessKey"),
            ("lambda", "Environment"),
            ("logs", "message"),
            ("dynamodb", "S"),
        ] {
            assert!(!is_returned(service, name), "{service} {name}");
        }
    }
}
