//! What an operation grants to too many, read from its parameters: policy documents that allow everything, rules that open a
//! network, ACLs that make data public. Pure, so that the findings are part of the risk that is stored with an approval request.
//!
//! An IAM policy is one string to the model of its operation. Forty harmless statements before one that allows `*` on `*` would
//! otherwise hide it from the person who must approve it.
//!
//! The reader errs toward a finding. It takes every member that is given twice, it ignores the case of names, it looks into every
//! string that is a JSON document, and a document that it cannot read but that may be a policy is a finding too. YAML is not read.

use crate::document_text::{begins_as_json_document, decode_percent_encoded_json};
use crate::{AccessLevel, Operation, escape_invisible};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A document in a string of a document, and so on. Templates have two.
const MAX_DOCUMENT_DEPTH: usize = 8;
/// Positions that one finding names; it counts the others.
const MAX_NAMED_POSITIONS: usize = 3;
/// Characters of the path to a document, and of a statement id.
const MAX_NAME_CHARS: usize = 40;

/// A kind of broad grant. The heaviest come first: so are they listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BroadGrantKind {
    EveryAction,
    Everyone,
    PassAnyRole,
    EveryActionOfService,
    AllExcept,
    PublicAcl,
    OpenNetwork,
    UnreadableDocument,
}

impl BroadGrantKind {
    pub const ALL: [Self; 8] = [
        Self::EveryAction,
        Self::Everyone,
        Self::PassAnyRole,
        Self::EveryActionOfService,
        Self::AllExcept,
        Self::PublicAcl,
        Self::OpenNetwork,
        Self::UnreadableDocument,
    ];

    /// The weight in the risk, and the words.
    pub const fn factor(self) -> (u8, &'static str) {
        match self {
            Self::EveryAction => (50, "allows every action on every resource"),
            Self::Everyone => (50, "allows everyone: any principal, without a condition that restricts it"),
            Self::PassAnyRole => (40, "allows iam:PassRole for every role"),
            Self::EveryActionOfService => (40, "allows every action of a service on every resource"),
            Self::AllExcept => (40, "allows everything except what it lists (NotAction or NotResource)"),
            Self::PublicAcl => (40, "makes data public by an ACL"),
            Self::OpenNetwork => (40, "opens a network rule to the internet"),
            Self::UnreadableDocument => (30, "has a document that may be a policy and cannot be read"),
        }
    }
}

/// One kind of broad grant, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadGrant {
    pub kind: BroadGrantKind,
    /// `PolicyDocument, statement 40 of 40 (Last)`. Of safe characters only.
    pub positions: Vec<String>,
}

impl BroadGrant {
    /// The words with the positions.
    pub fn to_text(&self) -> String {
        let named = self.positions.iter().take(MAX_NAMED_POSITIONS).cloned().collect::<Vec<_>>().join("; ");
        let others = self.positions.len().saturating_sub(MAX_NAMED_POSITIONS);
        let others = if others > 0 { format!("; and {others} more") } else { String::new() };
        format!("{}: {named}{others}", self.kind.factor().1)
    }
}

/// The broad grants in the parameters of an operation, the heaviest first. An operation that only reads grants nothing.
pub fn find_broad_grants(operation: &Operation) -> Vec<BroadGrant> {
    if operation.access_level() <= AccessLevel::Read {
        return Vec::new();
    }
    let mut reader = GrantReader {
        // What removes a rule names it in the same words as what adds it.
        removes: ["Revoke", "Delete", "Detach", "Remove"].iter().any(|verb| operation.name.starts_with(verb)),
        found: Vec::new(),
    };
    reader.read(&Node::from_value(&operation.parameters), &mut Vec::new(), 0);
    let mut grants: Vec<BroadGrant> = Vec::new();
    for kind in BroadGrantKind::ALL {
        let mut positions: Vec<String> = Vec::new();
        for (_kind, position) in reader.found.iter().filter(|(found, _position)| *found == kind) {
            if !positions.contains(position) {
                positions.push(position.clone());
            }
        }
        if !positions.is_empty() {
            grants.push(BroadGrant { kind, positions });
        }
    }
    grants
}

/// A JSON value that keeps members that are given twice: a reader that kept the last one would not see what another one sees.
#[derive(Debug)]
enum Node<'a> {
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    Other,
}

impl<'a> Node<'a> {
    fn from_value(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(items) => Self::List(items.iter().map(Node::from_value).collect()),
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, value)| (Cow::Borrowed(name.as_str()), Node::from_value(value)))
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Other,
        }
    }

    /// The members of this name, in any case. Only an object has members.
    fn members<'n>(&'n self, wanted: &str) -> impl Iterator<Item = &'n Node<'a>> {
        let members = if let Self::Object(members) = self { members.as_slice() } else { &[] };
        members
            .iter()
            .filter(move |(name, _value)| name.eq_ignore_ascii_case(wanted))
            .map(|(_name, value)| value)
    }

    fn has(&self, wanted: &str) -> bool {
        self.members(wanted).next().is_some()
    }

    /// Every text in the members of this name: a list, a map of lists, and the functions of a template have several.
    fn texts<'n>(&'n self, wanted: &str) -> Vec<&'n str> {
        let mut texts = Vec::new();
        for member in self.members(wanted) {
            member.collect_texts(&mut texts);
        }
        texts
    }

    fn collect_texts<'n>(&'n self, texts: &mut Vec<&'n str>) {
        match self {
            Self::Text(text) => texts.push(text),
            Self::List(items) => items.iter().for_each(|item| item.collect_texts(texts)),
            Self::Object(members) => members.iter().for_each(|(_name, value)| value.collect_texts(texts)),
            Self::Other => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Node<'static>>()? {
            list.push((Cow::Owned(name), value));
        }
        Ok(Node::Object(list))
    }
}

/// A step of the path to a value.
#[derive(Clone)]
enum Step {
    Member(String),
    /// The index, and the length of its list.
    Item(usize, usize),
}

struct GrantReader {
    /// The operation removes what its parameters name.
    removes: bool,
    found: Vec<(BroadGrantKind, String)>,
}

impl GrantReader {
    fn read(&mut self, node: &Node<'_>, path: &mut Vec<Step>, depth: usize) {
        match node {
            Node::Text(text) => self.read_text(text, path, depth),
            Node::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Item(index, items.len()));
                    self.read(item, path, depth);
                    path.pop();
                }
            }
            Node::Object(members) => {
                self.read_statement(node, path);
                for (name, value) in members {
                    path.push(Step::Member(name.clone().into_owned()));
                    self.read_member(name, value, path);
                    self.read(value, path, depth);
                    path.pop();
                }
            }
            Node::Other => {}
        }
    }

    fn read_text(&mut self, text: &str, path: &mut Vec<Step>, depth: usize) {
        let decoded = decode_percent_encoded_json(text);
        let text = decoded.as_deref().unwrap_or(text);
        if !begins_as_json_document(text) {
            return;
        }
        let document = serde_json::from_str::<Node<'static>>(text.trim_start_matches('\u{feff}'));
        match document {
            Ok(document) if depth < MAX_DOCUMENT_DEPTH => self.read(&document, path, depth + 1),
            // AWS may read what this reader does not: an unpaired surrogate, a number out of range.
            Ok(_) | Err(_) if may_be_policy(text) => self.add(BroadGrantKind::UnreadableDocument, path, ""),
            Ok(_) | Err(_) => {}
        }
    }

    fn read_statement(&mut self, statement: &Node<'_>, path: &[Step]) {
        let actions = statement.texts("Action");
        if actions.is_empty() && !statement.has("NotAction") {
            return;
        }
        let names_principal = statement.has("Principal") || statement.has("NotPrincipal");
        let allows = statement.texts("Effect").iter().any(|effect| effect.eq_ignore_ascii_case("allow"));
        // AddPermission of Lambda has the members of a statement as parameters, without an effect.
        let is_permission = !statement.has("Effect") && names_principal;
        if self.removes || !(allows || is_permission) {
            return;
        }
        let sid = statement.texts("Sid").first().copied().unwrap_or_default();
        let resources = statement.texts("Resource");
        // A statement of a policy that is attached to a resource may leave the resource out.
        let is_every_resource = resources.iter().any(|resource| is_every_resource(resource))
            || (resources.is_empty() && !names_principal);
        if statement.has("NotAction") || statement.has("NotResource") {
            self.add(BroadGrantKind::AllExcept, path, sid);
        }
        let is_everyone = statement.has("NotPrincipal")
            || statement.texts("Principal").iter().any(|principal| is_wildcard(principal));
        if is_everyone && !is_restricted(statement) {
            self.add(BroadGrantKind::Everyone, path, sid);
        }
        for action in actions {
            let (service, name) = action.split_once(':').unwrap_or((action, "*"));
            if is_wildcard(service) && is_wildcard(name) {
                if is_every_resource {
                    self.add(BroadGrantKind::EveryAction, path, sid);
                }
            } else if is_wildcard(name) {
                if is_every_resource && action.contains(':') {
                    self.add(BroadGrantKind::EveryActionOfService, path, sid);
                }
            } else if matches_pattern(action, "iam:PassRole")
                && (is_every_resource || resources.iter().any(|resource| is_every_role(resource)))
            {
                self.add(BroadGrantKind::PassAnyRole, path, sid);
            }
        }
    }

    fn read_member(&mut self, name: &str, value: &Node<'_>, path: &[Step]) {
        if self.removes {
            return;
        }
        let mut texts = Vec::new();
        match value {
            Node::Text(text) => texts.push(text.as_ref()),
            Node::List(items) => items.iter().for_each(|item| {
                if let Node::Text(text) = item {
                    texts.push(text.as_ref());
                }
            }),
            Node::Object(_) | Node::Other => return,
        }
        let name = name.to_ascii_lowercase();
        for text in texts {
            match name.as_str() {
                "cidrip" | "cidripv4" | "cidripv6" if is_open_network(text) => {
                    self.add(BroadGrantKind::OpenNetwork, path, "");
                }
                "acl" | "accesscontrol" if is_public_canned_acl(text) => {
                    self.add(BroadGrantKind::PublicAcl, path, "");
                }
                "policyarn" if text.ends_with(":policy/AdministratorAccess") => {
                    self.add(BroadGrantKind::EveryAction, path, "");
                }
                "uri" => self.read_grantee(text, path),
                grant if grant.starts_with("grant") => self.read_grantee(text, path),
                _ => {}
            }
        }
    }

    /// A grantee of an ACL: a URI, or a header such as `x-amz-grant-full-control`.
    fn read_grantee(&mut self, text: &str, path: &[Step]) {
        let text = text.to_ascii_lowercase();
        if text.contains("groups/global/allusers") || text.contains("groups/global/authenticatedusers") {
            self.add(BroadGrantKind::PublicAcl, path, "");
        }
    }

    fn add(&mut self, kind: BroadGrantKind, path: &[Step], sid: &str) {
        self.found.push((kind, describe_position(path, sid)));
    }
}

/// `PolicyDocument, statement 40 of 40 (Last)`.
fn describe_position(path: &[Step], sid: &str) -> String {
    let names_statement =
        |step: &Step| matches!(step, Step::Member(name) if name.eq_ignore_ascii_case("statement"));
    let (path, statement) = match path {
        [before @ .., member, Step::Item(index, count)] if names_statement(member) => {
            (before, format!("statement {} of {count}", index + 1))
        }
        [before @ .., member] if names_statement(member) => (before, "its only statement".to_owned()),
        all => (all, String::new()),
    };
    let names: Vec<String> = path
        .iter()
        .map(|step| match step {
            Step::Member(name) => name.clone(),
            Step::Item(index, _count) => (index + 1).to_string(),
        })
        .collect();
    // A statement id that could be taken for words of the gateway is left out: the number is enough.
    let is_plain =
        |sid: &str| sid.len() <= MAX_NAME_CHARS && sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let sid = if sid.is_empty() || !is_plain(sid) { String::new() } else { format!(" ({sid})") };
    let parts = [shorten(&names.join("/")), statement];
    let position = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let position = if position.is_empty() { "the parameters".to_owned() } else { position };
    format!("{position}{sid}")
}

/// The text with visible characters only and, if it is long, its end: the end names the member.
fn shorten(text: &str) -> String {
    let shown = escape_invisible(text);
    let length = shown.chars().count();
    if length <= MAX_NAME_CHARS {
        return shown;
    }
    let end: String = shown.chars().skip(length - (MAX_NAME_CHARS - 3)).collect();
    format!("...{end}")
}

/// Whether a document that cannot be read may have an effect. Escapes could hide the word.
fn may_be_policy(text: &str) -> bool {
    text.contains("\\u") || text.to_ascii_lowercase().contains("effect")
}

/// `*`, and other spellings of it.
fn is_wildcard(pattern: &str) -> bool {
    pattern.contains('*') && pattern.bytes().all(|byte| matches!(byte, b'*' | b'?' | b':'))
}

/// `*`, or an ARN without a name in it: `arn:aws:s3:::*` is every bucket.
fn is_every_resource(resource: &str) -> bool {
    let mut fields = resource.splitn(6, ':');
    let is_arn = fields.next().is_some_and(|first| first == "arn" || is_wildcard(first));
    let fields: Vec<&str> = fields.collect();
    let is_open = |field: &&str| field.is_empty() || is_wildcard(field);
    let names_nothing = match fields.as_slice() {
        [] => false,
        [_partition, _service, _region, account, name] => is_open(account) && is_every_name(name),
        // `arn:*`: the wildcard spans the fields that are not there.
        shorter => {
            shorter.iter().skip(1).all(is_open) && shorter.last().is_some_and(|last| last.ends_with('*'))
        }
    };
    is_wildcard(resource) || (is_arn && names_nothing)
}

fn is_every_name(name: &str) -> bool {
    name.contains('*') && name.bytes().all(|byte| matches!(byte, b'*' | b'?' | b'/' | b':'))
}

/// A pattern of every role of an account.
fn is_every_role(resource: &str) -> bool {
    let name = resource.splitn(6, ':').nth(5).unwrap_or_default();
    name.strip_prefix("role").is_some_and(is_every_name)
}

/// Whether an IAM pattern matches an action, whatever the case.
fn matches_pattern(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let (pattern, action) = (pattern.as_bytes(), action.as_bytes());
    let (mut in_pattern, mut in_action) = (0, 0);
    let mut last_star = None;
    while let Some(byte) = action.get(in_action) {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                last_star = Some((in_pattern, in_action));
                in_pattern += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                in_pattern += 1;
                in_action += 1;
            }
            _ => {
                let Some((star, from)) = last_star else { return false };
                last_star = Some((star, from + 1));
                (in_pattern, in_action) = (star + 1, from + 1);
            }
        }
    }
    pattern.iter().skip(in_pattern).all(|byte| *byte == b'*')
}

/// The condition keys that say who calls or from where. AWS counts a policy with a fixed value for one of them as not public
/// (Amazon S3 User Guide, "The meaning of public").
const RESTRICTING_KEYS: [&str; 17] = [
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:sourcearn",
    "aws:sourceaccount",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:sourceowner",
    "aws:sourceip",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:vpcsourceip",
    "aws:userid",
    "kms:calleraccount",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
];

/// Whether a condition of the statement restricts who may use it.
fn is_restricted(statement: &Node<'_>) -> bool {
    // The parameters of AddPermission.
    let has_source = ["SourceArn", "SourceAccount", "PrincipalOrgID"]
        .iter()
        .any(|name| statement.texts(name).iter().any(|text| !text.contains('*') && !text.is_empty()));
    let mut conditions = statement.members("Condition");
    (has_source && !statement.has("Effect"))
        || conditions.next().is_some_and(|first| {
            // Of two conditions, AWS may take either.
            conditions.next().is_none() && condition_restricts(first)
        })
}

fn condition_restricts(condition: &Node<'_>) -> bool {
    let Node::Object(operators) = condition else { return false };
    operators.iter().any(|(operator, keys)| {
        let operator = operator.to_ascii_lowercase();
        // These are true for a caller without the key, or for all but one.
        let is_weak = ["not", "null", "ifexists", "forallvalues"].iter().any(|word| operator.contains(word));
        let Node::Object(keys) = keys else { return false };
        !is_weak
            && keys.iter().any(|(key, values)| {
                let mut texts = Vec::new();
                values.collect_texts(&mut texts);
                RESTRICTING_KEYS.contains(&key.to_ascii_lowercase().as_str())
                    && !texts.is_empty()
                    && !texts
                        .iter()
                        .any(|text| is_every_name(text) || is_every_resource(text) || is_open_network(text))
            })
    })
}

/// A network of the internet with more addresses than any organization has: `0.0.0.0/0`, `::/0`, and halves of them.
fn is_open_network(text: &str) -> bool {
    let Some((address, length)) = text.trim().rsplit_once('/') else { return false };
    // `fc00::/7` are the private addresses of IPv6.
    let is_private = address.to_ascii_lowercase().starts_with("fc");
    !is_private && length.parse::<u8>().is_ok_and(|length| length < 8)
}

/// `public-read`, `public-read-write`, `authenticated-read` (anyone with an AWS account); templates leave the hyphens out.
fn is_public_canned_acl(text: &str) -> bool {
    let text = text.to_ascii_lowercase().replace('-', "");
    text.starts_with("publicread") || text.starts_with("authenticatedread")
}

#[cfg(test)]
mod tests;
