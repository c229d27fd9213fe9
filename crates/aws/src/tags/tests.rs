use super::*;
use durward_catalog::Catalog;
use std::collections::BTreeMap;

fn tag_lookup(arn: &str) -> TagLookup {
    find_tag_lookup(Catalog::embedded(), arn, "eu-west-1")
        .unwrap_or_else(|| panic!("no tag lookup for {arn}"))
}

/// Method, path with query, body, and the action that a credential must permit.
fn built_request(arn: &str) -> (String, String, String, String) {
    let call = tag_lookup(arn);
    let request = call.build_request(None).expect("the request can be built");
    let target =
        if request.query.is_empty() { request.path } else { format!("{}?{}", request.path, request.query) };
    (request.method, target, request.body, call.required_permissions[0].action.clone())
}

#[test]
fn every_service_has_its_own_request() {
    let account = "123456789012";
    for (arn, method, target, body, action) in [
        ("arn:aws:s3:::b", "GET", "/b?tagging", String::new(), "s3:GetBucketTagging"),
        (
            "arn:aws:dynamodb:eu-west-1:123456789012:table/T",
            "POST",
            "/",
            r#"{"ResourceArn":"arn:aws:dynamodb:eu-west-1:123456789012:table/T"}"#.to_owned(),
            "dynamodb:ListTagsOfResource",
        ),
        (
            "arn:aws:sqs:eu-west-1:123456789012:q",
            "POST",
            "/",
            format!(r#"{{"QueueUrl":"https://sqs.eu-west-1.amazonaws.com/{account}/q"}}"#),
            "sqs:ListQueueTags",
        ),
        (
            "arn:aws:sns:eu-west-1:123456789012:t",
            "POST",
            "/",
            "Action=ListTagsForResource&Version=2010-03-31&ResourceArn=arn%3Aaws%3Asns%3Aeu-west-1%3A123456789012%3At"
                .to_owned(),
            "sns:ListTagsForResource",
        ),
        (
            "arn:aws:iam::123456789012:role/path/r",
            "POST",
            "/",
            "Action=ListRoleTags&Version=2010-05-08&RoleName=r".to_owned(),
            "iam:ListRoleTags",
        ),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            "GET",
            "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af",
            String::new(),
            "lambda:ListTags",
        ),
        (
            "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0",
            "POST",
            "/",
            "Action=DescribeTags&Version=2016-11-15&Filter.1.Name=resource-id&Filter.1.Value.1=i-0123456789abcdef0".to_owned(),
            "ec2:DescribeTags",
        ),
        (
            "arn:aws:ssm:eu-west-1:123456789012:parameter/a/b",
            "POST",
            "/",
            r#"{"ResourceId":"/a/b","ResourceType":"Parameter"}"#.to_owned(),
            "ssm:ListTagsForResource",
        ),
        (
            "arn:aws:rds:eu-west-1:123456789012:db:d",
            "POST",
            "/",
            "Action=ListTagsForResource&Version=2014-10-31&ResourceName=arn%3Aaws%3Ards%3Aeu-west-1%3A123456789012%3Adb%3Ad"
                .to_owned(),
            "rds:ListTagsForResource",
        ),
    ] {
        let expected = (method.to_owned(), target.to_owned(), body, action.to_owned());
        assert_eq!(built_request(arn), expected, "{arn}");
    }
}

#[test]
fn an_ec2_resource_named_by_name_has_no_tag_lookup() {
    for name in [
        "key-pair/kp1",
        "key-pair/team-0123abcd",
        "placement-group/team-0123abcd",
        "security-group/default",
        "instance/*",
        "instance/i-01",
        "instance/I-0123456789abcdef0",
    ] {
        let arn = format!("arn:aws:ec2:eu-west-1:123456789012:{name}");
        assert!(find_tag_lookup(Catalog::embedded(), &arn, "eu-west-1").is_none(), "{arn}");
    }
}

#[test]
fn most_services_have_a_tag_lookup() {
    let arn_of = |service: &str| format!("arn:aws:{service}:eu-west-1:123456789012:thing/x");
    let catalog = Catalog::embedded();
    let mut prefixes: Vec<&str> =
        catalog.service_entries().iter().map(|entry| entry.iam_prefix.as_str()).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let supported = prefixes
        .iter()
        .filter(|prefix| find_tag_lookup(catalog, &arn_of(prefix), "eu-west-1").is_some())
        .count();
    assert!(supported >= 250, "{supported} of {}", prefixes.len());
}

#[test]
fn parts_have_the_tags_of_their_resource() {
    for (arn, of) in [
        ("arn:aws:s3:::b/k/l", "arn:aws:s3:::b"),
        ("arn:aws:s3:::b", "arn:aws:s3:::b"),
        ("arn:aws:lambda:r:1:function:f:PROD", "arn:aws:lambda:r:1:function:f"),
        ("arn:aws:lambda:r:1:function:f", "arn:aws:lambda:r:1:function:f"),
        ("arn:aws:dynamodb:r:1:table/T/index/i", "arn:aws:dynamodb:r:1:table/T"),
        ("arn:aws:dynamodb:r:1:table/T", "arn:aws:dynamodb:r:1:table/T"),
        ("arn:aws:logs:r:1:log-group:/a/b:log-stream:s", "arn:aws:logs:r:1:log-group:/a/b"),
        ("arn:aws:logs:r:1:log-group:/a/b:*", "arn:aws:logs:r:1:log-group:/a/b"),
        ("arn:aws:kms:r:1:key/k", "arn:aws:kms:r:1:key/k"),
        ("no arn", "no arn"),
    ] {
        assert_eq!(taggable_resource(arn), of);
    }
}

fn tag_map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn responses_are_parsed_in_every_form() {
    let (bucket, table, topic) = (
        tag_lookup("arn:aws:s3:::b"),
        tag_lookup("arn:aws:dynamodb:eu-west-1:123456789012:table/T"),
        tag_lookup("arn:aws:sns:eu-west-1:123456789012:t"),
    );
    let expected = tag_map(&[("a", "1"), ("b", "")]);
    for (call, body) in [
        (
            &bucket,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>\
             <Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b</Key><Value/></Tag></TagSet></Tagging>",
        ),
        (&table, r#"{"Tags":[{"Key":"a","Value":"1"},{"Key":"b","Value":""}]}"#),
        (&table, r#"{"tags":{"a":"1","b":""}}"#),
        (&table, r#"{"Tags":[{"TagKey":"a","TagValue":"1"},{"TagKey":"b"}],"Truncated":false}"#),
        (
            &table,
            r#"{"TagInfoForResource":{"ResourceARN":"r","TagList":[{"Key":"a","Value":"1"},{"Key":"b","Value":""}]}}"#,
        ),
        (&table, r#"{"Stacks":[{"StackName":"s","Tags":[{"Key":"a","Value":"1"},{"Key":"b","Value":""}]}]}"#),
        (
            &topic,
            "<ListTagsForResourceResponse xmlns=\"x\"><ListTagsForResourceResult><Tags><member><Key>a</Key>\
             <Value>1</Value></member><member><Key>b</Key></member></Tags></ListTagsForResourceResult>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></ListTagsForResourceResponse>",
        ),
        (
            &topic,
            "<DescribeTagsResponse><tagSet><item><resourceId>i</resourceId><key>a</key><value>1</value></item>\
             <item><key>b</key><value/></item></tagSet></DescribeTagsResponse>",
        ),
    ] {
        assert_eq!(
            call.parse_response(200, body.as_bytes()).map(|page| page.tags),
            Ok(expected.clone()),
            "{body}"
        );
    }
    assert_eq!(table.parse_response(200, b"{}"), Ok(TagPage::default()), "a service may omit an empty list");
}

#[test]
fn a_response_that_is_not_understood_is_an_error() {
    let (bucket, table) =
        (tag_lookup("arn:aws:s3:::b"), tag_lookup("arn:aws:dynamodb:eu-west-1:123456789012:table/T"));
    for body in [
        "",
        "[]",
        "null",
        r#"{"Tags":"a"}"#,
        r#"{"Tags":[1]}"#,
        r#"{"Tags":[{"x":1}]}"#,
        r#"{"Tags":{"a":1}}"#,
    ] {
        assert!(table.parse_response(200, body.as_bytes()).is_err(), "{body}");
    }
    for body in ["", "{}", "<html></html>", "<Error><Code>InternalError</Code></Error>", "<Tagging>"] {
        assert!(bucket.parse_response(200, body.as_bytes()).is_err(), "{body}");
    }
    for status in [301, 403, 500, 503] {
        assert!(bucket.parse_response(status, b"<Error><Code>AccessDenied</Code></Error>").is_err());
        assert!(table.parse_response(status, br#"{"__type":"x#AccessDeniedException"}"#).is_err());
    }
    assert!(table.parse_response(500, br#"{"__type":"ResourceNotFoundException"}"#).is_err());
}

#[test]
fn untagged_and_missing_resources_are_distinguished() {
    let (bucket, table) =
        (tag_lookup("arn:aws:s3:::b"), tag_lookup("arn:aws:dynamodb:eu-west-1:123456789012:table/T"));
    assert_eq!(
        bucket.parse_response(404, b"<Error><Code>NoSuchTagSet</Code></Error>"),
        Ok(TagPage::default())
    );
    let missing = Ok(TagPage { is_resource_missing: true, ..TagPage::default() });
    assert_eq!(bucket.parse_response(404, b"<Error><Code>NoSuchBucket</Code></Error>"), missing);
    assert_eq!(
        table.parse_response(400, br#"{"__type":"com.amazonaws#ResourceNotFoundException"}"#),
        missing
    );
}

#[test]
fn pages_are_followed_where_the_service_has_them() {
    let table = tag_lookup("arn:aws:dynamodb:eu-west-1:123456789012:table/T");
    let page =
        table.parse_response(200, br#"{"Tags":[],"NextToken":"n"}"#).expect("the response is understood");
    assert_eq!(page.next_token.as_deref(), Some("n"));
    let next = table.build_request(Some("n")).expect("the operation has pages");
    assert!(next.body.contains(r#""NextToken":"n""#), "{}", next.body);
    assert!(tag_lookup("arn:aws:s3:::b").build_request(Some("n")).is_none());
}
