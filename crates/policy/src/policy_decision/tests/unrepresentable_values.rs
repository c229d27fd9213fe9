//! Values that Cedar cannot hold, and numbers that are written in several ways: none makes a refused operation an allowed one.

use super::*;
use durward_core::parse_strict_json;
use proptest::prelude::*;

/// A decision on a tool call with these arguments, as a client writes them.
fn decide_on_arguments(set: &PolicySet, arguments: &str) -> Decision {
    let arguments = parse_strict_json(arguments.as_bytes()).expect("the arguments are JSON");
    decide_for_groups(set, &[], &test_tool_call("s", "t", arguments))
}

fn forbid_when(condition: &str) -> PolicySet {
    compile_test_set(&format!(
        "@id(\"all\") permit (principal, action, resource);
         @id(\"guard\") forbid (principal, action == Mcp::Action::\"tools/call\", resource == Mcp::Tool::\"s/t\")
         when {{ {condition} }};"
    ))
}

#[test]
fn a_number_is_decided_however_it_is_written() {
    let set = forbid_when("context.arguments has amount && context.arguments.amount > 100");
    for amount in ["500", "500.0", "5e2", "0.5e3", "50000E-2", "1e18", "9223372036854775807.0"] {
        let decision = decide_on_arguments(&set, &format!(r#"{{"amount": {amount}}}"#));
        assert_eq!(decision.reason, "tools/call on s/t is forbidden by policy `guard`", "{amount}");
    }
    for amount in ["50", "50.0", "5e1", "-1e18", "-0.0", "0e999"] {
        let decision = decide_on_arguments(&set, &format!(r#"{{"amount": {amount}}}"#));
        assert_eq!(decision.verdict, Verdict::Allow, "{amount}: {}", decision.reason);
    }
}

#[test]
fn a_value_that_cedar_cannot_hold_refuses_where_a_policy_reads_it() {
    let refused = |path: &str, what: &str| {
        format!(
            "tools/call on s/t is refused because policy `guard` could not be evaluated: `context.arguments.{path}` is {what}, which \
             policy cannot read"
        )
    };
    let not_whole = "not a whole number of 64 bits";
    let deep = "[[[[[[[[[1]]]]]]]]]";
    let deep_record = r#"{"x":{"x":{"x":{"x":{"x":{"x":{"x":{"x":1}}}}}}}}"#;
    let amount = "context.arguments has amount && context.arguments.amount > 100";
    let paths = "context.arguments has paths && context.arguments.paths.contains(\"/etc/shadow\")";
    let owner = "context.arguments has owner.name && context.arguments.owner.name == \"root\"";
    for (condition, arguments, path, what) in [
        (amount, r#"{"amount": 9223372036854775808}"#, "amount", not_whole),
        (amount, r#"{"amount": 1e30}"#, "amount", not_whole),
        (amount, r#"{"amount": 0.5}"#, "amount", not_whole),
        (amount, r#"{"amount": 500.00000000000000000001}"#, "amount", not_whole),
        (amount, r#"{"amount": null}"#, "amount", "null"),
        (paths, r#"{"paths": ["/etc/shadow", null]}"#, "paths[1]", "null"),
        (paths, r#"{"paths": ["/etc/shadow", 0.5]}"#, "paths[1]", not_whole),
        (paths, r#"{"paths": ["/etc/shadow", {"a": [1, null]}]}"#, "paths[1].a[1]", "null"),
        (
            paths,
            &format!(r#"{{"paths": ["/etc/shadow", {deep}]}}"#),
            "paths[1][0][0][0][0][0][0][0]",
            "nested too deeply",
        ),
        (paths, r#"{"paths": null}"#, "paths", "null"),
        (owner, r#"{"owner": {"name": null}}"#, "owner.name", "null"),
        (owner, r#"{"owner": null}"#, "owner", "null"),
        (owner, r#"{"owner": {"name": 1.5}}"#, "owner.name", not_whole),
        ("context.arguments.amount == 5", r#"{"amount": 5.5}"#, "amount", not_whole),
        ("context.arguments.amount != 5", r#"{"amount": null}"#, "amount", "null"),
        ("[1, 2].contains(context.arguments.n)", r#"{"n": 1.5}"#, "n", not_whole),
        (
            "context.arguments.r.x.x.x.x.x.x.x.x == \"a\"",
            &format!(r#"{{"r": {{"x": {{"x": {deep_record}}}}}}}"#),
            "r.x.x.x.x.x.x.x.x",
            "nested too deeply",
        ),
        // Whether it is there depends on the reader.
        ("!(context.arguments has reason)", r#"{"reason": null}"#, "reason", "null"),
    ] {
        let decision = decide_on_arguments(&forbid_when(condition), arguments);
        assert_eq!(
            (decision.verdict, decision.reason),
            (Verdict::Deny, refused(path, what)),
            "{condition}: {arguments}"
        );
    }
}

#[test]
fn an_argument_of_another_type_than_policy_reads_refuses() {
    let force = "context.arguments has force && context.arguments.force == true";
    let levels = "context.arguments.levels.contains(3)";
    let owner = "context.arguments.owner == {id: 7}";
    for (condition, arguments, path, found, read_as) in [
        (force, r#"{"force": "true"}"#, "force", "a string", "a boolean"),
        (force, r#"{"force": 1}"#, "force", "a number", "a boolean"),
        (force, r#"{"force": "yes"}"#, "force", "a string", "a boolean"),
        (force, r#"{"force": [true]}"#, "force", "a list", "a boolean"),
        ("!(context.arguments.force != true)", r#"{"force": "on"}"#, "force", "a string", "a boolean"),
        ("context.arguments.id == \"500\"", r#"{"id": 500}"#, "id", "a number", "a string"),
        (
            "[\"prod\"].contains(context.arguments.id)",
            r#"{"id": {"v": "prod"}}"#,
            "id",
            "a record",
            "a string",
        ),
        (levels, r#"{"levels": [1, "3"]}"#, "levels[1]", "a string", "a number"),
        (levels, r#"{"levels": "3"}"#, "levels", "a string", "a set with a number in it"),
        (owner, r#"{"owner": {"id": "7"}}"#, "owner.id", "a string", "a number"),
        (owner, r#"{"owner": "7"}"#, "owner", "a string", "a record"),
    ] {
        let decision = decide_on_arguments(&forbid_when(condition), arguments);
        let why = format!("`context.arguments.{path}` is {found}, and policy reads it as {read_as}");
        assert_eq!(decision.verdict, Verdict::Deny, "{condition}: {arguments}");
        assert!(decision.reason.ends_with(&why), "{condition}: {arguments}: {}", decision.reason);
    }
    // In a permit, too: `unless` turns false into a permission.
    let unless = compile_test_set(
        "permit (principal, action == Mcp::Action::\"tools/call\", resource) unless { context.arguments has force && context.arguments.force == true };",
    );
    assert_eq!(decide_on_arguments(&unless, r#"{"force": "true"}"#).verdict, Verdict::Deny);
    assert_eq!(decide_on_arguments(&unless, r#"{"force": false, "id": "x"}"#).verdict, Verdict::Allow);
    let other_tool = forbid_when("context.tool == \"pay\" && context.arguments.force == true");
    assert_eq!(decide_on_arguments(&other_tool, r#"{"force": "true"}"#).verdict, Verdict::Allow);
}

#[test]
fn a_value_that_no_applicable_policy_reads_is_harmless() {
    let amount = "context.arguments has amount && context.arguments.amount > 100";
    for (condition, arguments) in [
        (amount, r#"{"other": null, "amount": 5}"#),
        (amount, r#"{"other": [1.5, 1e30, {"x": null}]}"#),
        ("context.tool == \"pay\" && context.arguments.amount > 100", r#"{"amount": 0.5}"#),
        (
            "context.arguments has owner.name && context.arguments.owner.name == \"root\"",
            r#"{"owner": {"age": 0.5, "name": "me"}}"#,
        ),
        (
            "context.arguments has owner && context.arguments.owner has age && context.arguments.owner.name == \"root\"",
            r#"{"owner": {"age": 0.5, "name": "me"}}"#,
        ),
        (
            "context.arguments has list && !(context.arguments has amount)",
            r#"{"list": [null], "amount": 0.5}"#,
        ),
    ] {
        let decision = decide_on_arguments(&forbid_when(condition), arguments);
        assert_eq!(decision.verdict, Verdict::Allow, "{condition}: {arguments}: {}", decision.reason);
    }
    let elsewhere = compile_test_set(
        "permit (principal, action, resource);
         forbid (principal, action, resource == Mcp::Tool::\"s/pay\") when { context.arguments.amount > 100 };
         forbid (principal in Group::\"guests\", action == Mcp::Action::\"tools/call\", resource) when { context.arguments.amount > 1 };",
    );
    assert_eq!(decide_on_arguments(&elsewhere, r#"{"amount": 0.5}"#).verdict, Verdict::Allow);
}

#[test]
fn the_parameters_of_an_aws_request_are_read_as_arguments_are() {
    let set = compile_test_set(
        "permit (principal, action, resource);
         @id(\"few\") forbid (principal, action == Aws::Action::\"dynamodb:GetItem\", resource)
         when { context.params has Limit && context.params.Limit > 100 };",
    );
    let decide = |parameters: &str| {
        let parameters = parse_strict_json(parameters.as_bytes()).expect("the parameters are JSON");
        decide_for_groups(&set, &[], &test_operation(&[("dynamodb:GetItem", "*")], parameters))
    };
    assert_eq!(decide(r#"{"Limit": 5e2}"#).reason, "dynamodb:GetItem on * is forbidden by policy `few`");
    assert_eq!(
        decide(r#"{"Limit": 1e30}"#).reason,
        "dynamodb:GetItem on * is refused because policy `few` could not be evaluated: `context.params.Limit` is not a whole \
         number of 64 bits, which policy cannot read"
    );
    assert_eq!(decide(r#"{"Limit": 1.0e2, "TableName": null}"#).verdict, Verdict::Allow);
}

/// Conditions, with `$` for `context.arguments` or `context.params`.
const ATOMS: [&str; 20] = [
    "$ has a && $.a > 100",
    "$ has a && $.a == 500",
    "$ has a && $.a != 500",
    "!($ has a)",
    "$.a * 2 + 1 <= $.r.x",
    "[1, 500].contains($.a)",
    "$ has b",
    "$ has b && $.b like \"*x*\"",
    "if $ has b then $.b == \"x\" else true",
    "$ has l && $.l.contains(\"/etc/shadow\")",
    "$ has l && $.l.containsAny([\"\", \"x\"])",
    "$ has l && [\"x\", \"/etc/shadow\"].containsAll($.l)",
    "$ has l && !$.l.isEmpty()",
    "$ has l && $.l == [\"x\"]",
    "$ has r.x && $.r.x < 3",
    "$ has r && $.r has x && !($.r has y)",
    "$ has r && $.r == {x: 1}",
    "$ == {a: 500}",
    "$ has r && (if $ has b then $.r else {x: 1}) == {x: 1}",
    "principal.kind == \"workload\"",
];

fn arbitrary_condition() -> impl Strategy<Value = String> {
    prop::sample::select(ATOMS.as_slice()).prop_map(|atom| format!("({atom})")).prop_recursive(
        2,
        4,
        2,
        |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} && {right})")),
                (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} || {right})")),
                inner.prop_map(|inner| format!("!({inner})")),
            ]
        },
    )
}

fn arbitrary_policies() -> impl Strategy<Value = String> {
    let policy = (
        prop::sample::select(["permit", "forbid", "@approval(\"g\") forbid"].as_slice()),
        arbitrary_condition(),
    );
    (any::<bool>(), prop::collection::vec(policy, 1..4)).prop_map(|(permits_all, policies)| {
        let mut text = if permits_all { "permit (principal, action, resource);\n".to_owned() } else { String::new() };
        for (effect, condition) in policies {
            let scope = "(principal, action in [Mcp::Action::\"tools/call\", Aws::Action::\"s3:GetObject\"], resource)";
            let policy = format!("{effect} {scope} when {{ {condition} }};\n");
            text.push_str(&policy);
        }
        text
    })
}

/// Members that Cedar can hold, most of them of the type that the conditions read.
fn arbitrary_members() -> impl Strategy<Value = Value> {
    let number =
        || prop::sample::select([0, 1, 2, 99, 101, 500, i64::MAX, i64::MIN].as_slice()).prop_map(Value::from);
    let text = || prop::sample::select(["", "x", "/etc/shadow"].as_slice()).prop_map(Value::from);
    let other =
        prop_oneof![number(), text(), any::<bool>().prop_map(Value::from)].prop_recursive(2, 6, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[xy]", inner, 0..3)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        });
    let texts = prop::collection::vec(text(), 0..3).prop_map(Value::from);
    let record =
        prop::collection::btree_map("[xy]", number(), 0..3).prop_map(|members| members.into_iter().collect());
    let member = |name: &'static str, value: BoxedStrategy<Value>| {
        let value = prop_oneof![4 => value, 1 => other.clone()];
        prop::option::weighted(0.8, value).prop_map(move |value| value.map(|value| (name, value)))
    };
    (
        member("a", number().boxed()),
        member("b", text().boxed()),
        member("l", texts.boxed()),
        member("r", record.boxed()),
    )
        .prop_map(|(a, b, l, r)| {
            [a, b, l, r].into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect()
        })
}

/// A text that is read as [`CHANGED`], and stands for none of the random values.
const MARK: &str = "(changed)";
/// What Cedar cannot hold, as a client writes it.
const CHANGED: [&str; 8] = [
    "null",
    "0.5",
    "500.00000000000000000001",
    "-1e30",
    "18446744073709551616",
    "9223372036854775808",
    "[[[[[[[[[[1]]]]]]]]]]",
    // A record of its own is another value, whose members can be read.
    r#"[{"x":{"x":{"x":{"x":{"x":{"x":{"x":{"x":1}}}}}}}}]"#,
];

/// Every value and item of a list below this one.
fn positions(value: &mut Value) -> usize {
    let mut count = 0;
    visit_positions(value, &mut |_value| {
        count += 1;
    });
    count
}

fn visit_positions(value: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| {
            visit_positions(item, visit);
            visit(item);
        }),
        Value::Object(members) => members.values_mut().for_each(|member| {
            visit_positions(member, visit);
            visit(member);
        }),
        _ => {}
    }
}

/// The value once for each value below it, with the mark in its place; of a list, also with the mark among its items.
fn marked_at_each_position(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for chosen in 0..positions(&mut value.clone()) {
        for beside in [false, true] {
            let (mut marked, mut position) = (value.clone(), 0);
            visit_positions(&mut marked, &mut |found| {
                if position == chosen {
                    match found {
                        Value::Array(items) if beside => items.push(MARK.into()),
                        _ => *found = MARK.into(),
                    }
                }
                position += 1;
            });
            if !all.contains(&marked) {
                all.push(marked);
            }
        }
    }
    all
}

/// The value without what is marked, as a reader sees it that takes null for absent.
fn without_mark(value: &Value) -> Option<Value> {
    Some(match value {
        Value::String(text) if text == MARK => return None,
        Value::Array(items) => items.iter().filter_map(without_mark).collect(),
        Value::Object(members) => {
            members.iter().filter_map(|(name, member)| Some((name.clone(), without_mark(member)?))).collect()
        }
        other => other.clone(),
    })
}

/// The JSON text, with each number written in one of several ways.
fn write_json(value: &Value, changed: &str, spellings: &mut impl Iterator<Item = u8>) -> String {
    match value {
        Value::Number(number) => {
            let number = number.to_string();
            let (sign, digits) =
                number.strip_prefix('-').map_or(("", number.as_str()), |digits| ("-", digits));
            match spellings.next().unwrap_or_default() % 5 {
                0 => number,
                1 => format!("{number}.0"),
                // A number does not begin with 00.
                2 if digits == "0" => "0e-2".to_owned(),
                2 => format!("{number}00e-2"),
                3 => format!("{sign}0.{digits}E+{}", digits.len()),
                _ => format!(
                    "{sign}{}.{}e{}",
                    &digits[..1],
                    if digits.len() > 1 { &digits[1..] } else { "0" },
                    digits.len() - 1
                ),
            }
        }
        Value::String(text) if text == MARK => changed.to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| write_json(item, changed, spellings)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, member)| format!("\"{name}\": {}", write_json(member, changed, spellings)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

fn strictness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::RequireApproval => 1,
        Verdict::Deny => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_spelling_of_a_value_makes_a_decision_less_strict(
        policies in arbitrary_policies(),
        all_members in prop::collection::vec(arbitrary_members(), 5),
        spellings in prop::collection::vec(any::<u8>(), 12),
        is_aws in any::<bool>(),
    ) {
        let root = if is_aws { "context.params" } else { "context.arguments" };
        let policies = policies.replace('$', root);
        let checked = policy_loader::load_unvalidated(&[test_policy_file(&policies)], &TestSchemaSource).expect("the policies load");
        let set = PolicySet::compile("v".to_owned(), checked, &TestSchemaSource);
        let decide = |text: &str| {
            let parameters = parse_strict_json(text.as_bytes()).expect("the parameters are JSON");
            let operation = if is_aws {
                test_operation(&[GET_OBJECT], parameters)
            } else {
                test_tool_call("s", "t", parameters)
            };
            decide_for_groups(&set, &[], &operation)
        };
        let is_read = |name: &str| {
            let reads = [format!("{root} has {name}"), format!("{root}.{name}"), format!("{root} ==")];
            reads.iter().any(|read| policies.contains(read))
        };
        for members in &all_members {
            let plain = decide(&members.to_string());
            let respelled = write_json(members, "", &mut spellings.iter().copied());
            prop_assert_eq!(&decide(&respelled), &plain, "{}\n{}", respelled, policies);
            for marked in marked_at_each_position(members) {
                let without = decide(&without_mark(&marked).expect("an object stays").to_string());
                let marked_member = |(name, member): (&String, &Value)| {
                    (members[name.as_str()] != *member).then(|| name.clone())
                };
                let name = marked.as_object().expect("an object").iter().find_map(marked_member);
                for changed in CHANGED {
                    let text = write_json(&marked, changed, &mut spellings.iter().copied());
                    let decision = decide(&text);
                    prop_assert!(
                        strictness(decision.verdict) >= strictness(plain.verdict),
                        "{members} is {:?}, {text} is {:?}\n{policies}",
                        plain.verdict,
                        decision.verdict
                    );
                    prop_assert!(
                        changed != "null" || strictness(decision.verdict) >= strictness(without.verdict),
                        "without {name:?} it is {:?}, {text} is {:?}\n{policies}",
                        without.verdict,
                        decision.verdict
                    );
                    // What no policy reads changes nothing.
                    if !name.as_deref().is_some_and(is_read) {
                        prop_assert_eq!(&decision, &plain, "{}\n{}", text, policies);
                    }
                }
            }
        }
    }
}

/// A value as a lenient server may have got it: numbers and booleans as text.
fn as_text(value: &Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => value.to_string().into(),
        Value::Array(items) => items.iter().map(as_text).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), as_text(member))).collect()
        }
        _ => value.clone(),
    }
}

proptest! {
    #[test]
    fn a_value_of_another_type_makes_no_decision_less_strict(
        policies in arbitrary_policies(),
        members in arbitrary_members(),
    ) {
        let policies = policies.replace('$', "context.arguments");
        let checked = policy_loader::load_unvalidated(&[test_policy_file(&policies)], &TestSchemaSource).expect("the policies load");
        let set = PolicySet::compile("v".to_owned(), checked, &TestSchemaSource);
        let arguments: Value = members;
        let decide = |arguments: &Value| decide_on_arguments(&set, &arguments.to_string());
        let before = decide(&arguments);
        // A value that was refused because of its type may have the right one as text.
        if before.verdict != Verdict::Allow && !before.reason.contains("could not be evaluated") {
            let after = decide(&as_text(&arguments)).verdict;
            prop_assert_ne!(after, Verdict::Allow, "{} on {}", policies, arguments);
        }
    }
}
