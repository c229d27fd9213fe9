//! Routing and required permissions of S3.

use super::*;

#[test]
fn s3_sub_resources_select_one_operation() {
    for (request, name) in [
        (get_request("s3", "/example-bucket?acl"), "GetBucketAcl"),
        (get_request("s3", "/example-bucket/"), "ListObjects"),
        (get_request("s3", "/example-bucket?list-type=2&prefix=a%2Fb"), "ListObjectsV2"),
        (get_request("s3", "/example-bucket/k?acl&versionId=v"), "GetObjectAcl"),
        (get_request("s3", "/example-bucket/k?uploadId=u&x-id=ListParts"), "ListParts"),
        (put_request("s3", "/example-bucket/k?partNumber=1&uploadId=u"), "UploadPart"),
        (
            put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", "/src-bucket/k"),
            "CopyObject",
        ),
        (put_request("s3", "/example-bucket/k?x-amz-copy-source=src-bucket%2Fk"), "CopyObject"),
        (test_request("s3", Method::HEAD, "/example-bucket"), "HeadBucket"),
        (get_request("s3", "/"), "ListBuckets"),
        (
            get_request("s3", "/?lifecycle").with_bucket_host("example-bucket"),
            "GetBucketLifecycleConfiguration",
        ),
        (get_request("s3", "/v20180820/key"), "GetObject"),
    ] {
        assert_eq!(request.expect_decoded().name, name);
    }
    for target in [
        "/example-bucket?acl&policy",
        "/example-bucket?policy&x-id=GetObject",
        "/example-bucket/k?x-id=PutObject",
        "/example-bucket?ACL",
        "/example-bucket?acl=1",
        "/example-bucket?acl&acl",
        "/example-bucket/k?newthing",
        "/example-bucket/k?versionId=a&versionId=b",
        "/example-bucket?list-type=3",
        "/..%2Fother/k",
        "/exam%70le-bucket/k",
        "/example-bucket%2Fk",
        "/example-bucket/a+b",
        "/example-bucket/%ff",
        "/example-bucket/%2",
    ] {
        get_request("s3", target).expect_refused();
    }
    put_request("s3", "/example-bucket/k?partNumber=1").expect_refused();
    put_request("s3", "/example-bucket/k?uploadId=1").expect_refused();
    post_request("s3", "/example-bucket")
        .with_header("content-type", "multipart/form-data; boundary=b")
        .with_body("--b")
        .expect_refused();
    let copy = || put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", "src-bucket/k");
    copy().with_header("x-amz-copy-source", "other/k").expect_refused();
    TestRequest { query: "x-amz-copy-source=other/k".into(), ..copy() }.expect_refused();
}

#[test]
fn s3_keys_are_kept_byte_for_byte() {
    for (path, key) in [
        ("/example-bucket//a", "/a"),
        ("/example-bucket/a/../b", "a/../b"),
        ("/example-bucket/a%2Fb", "a/b"),
        ("/example-bucket/a//b/", "a//b/"),
        ("/example-bucket/%C3%BC%2B", "ü+"),
    ] {
        assert_eq!(get_request("s3", path).expect_decoded().parameters["Key"], key);
    }
    let read = get_request("s3", "/../b").with_bucket_host("example-bucket").expect_decoded();
    assert_eq!(
        read.required_permissions[0].resource,
        Resource::Arn("arn:aws:s3:::example-bucket/../b".into())
    );
}

#[test]
fn s3_headers_and_versions_change_the_required_permissions() {
    let arn = "arn:aws:s3:::example-bucket/k";
    let read = put_request("s3", "/example-bucket/k")
        .with_header("x-amz-acl", "public-read")
        .with_header("x-amz-tagging", "a=b")
        .with_header("content-type", "text/plain")
        .with_body("hello")
        .expect_decoded();
    assert_eq!(
        permission_texts(&read),
        [
            format!("s3:PutObject {arn}"),
            format!("s3:PutObjectAcl {arn}"),
            format!("s3:PutObjectTagging {arn}")
        ]
    );
    assert_eq!(read.uninspected_parts, ["body"]);
    let hoisted = put_request("s3", "/example-bucket/k?x-amz-acl=public-read").expect_decoded();
    assert!(permission_texts(&hoisted).contains(&format!("s3:PutObjectAcl {arn}")));
    let version = test_request("s3", Method::DELETE, "/example-bucket/k?versionId=v").expect_decoded();
    assert_eq!(permission_texts(&version), [format!("s3:DeleteObjectVersion {arn}")]);
    let copy = put_request("s3", "/example-bucket/k")
        .with_header("x-amz-copy-source", "src-bucket/a%20b?versionId=v")
        .expect_decoded();
    assert!(permission_texts(&copy).contains(&"s3:GetObjectVersion arn:aws:s3:::src-bucket/a b".to_owned()));
    for bad in [
        "src-bucket",
        "src-bucket/",
        "src-bucket/k?x=1",
        "src-bucket/k?versionId=a&b",
        "a+b/k",
        "arn:aws:s3:::x",
    ] {
        put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", bad).expect_refused();
    }
}

#[test]
fn a_copy_source_behind_an_access_point_is_decided_as_the_access_points_object() {
    let access_point = "arn:aws:s3:us-east-1:123456789012:accesspoint/reports";
    let copy =
        |target: &str, source: &str| put_request("s3", target).with_header("x-amz-copy-source", source);
    for target in ["/example-bucket/k", "/example-bucket/k?partNumber=1&uploadId=u"] {
        for source in [
            format!("{access_point}/object/a/customers.csv"),
            format!("/{access_point}/object/a/customers.csv"),
            format!("{}/object/a%2Fcustomers.csv", access_point.replace(':', "%3A")),
        ] {
            let read = copy(target, &source).expect_decoded();
            let expected = format!("s3:GetObject {access_point}/object/a/customers.csv");
            assert!(permission_texts(&read).contains(&expected), "{source}: {:?}", permission_texts(&read));
        }
    }
    let outpost = "arn:aws:s3-outposts:us-east-1:123456789012:outpost/op-1/object/k";
    let read = copy("/example-bucket/k", outpost).expect_decoded();
    assert!(permission_texts(&read).contains(&format!("s3:GetObject {outpost}")));
    let alias = copy("/example-bucket/k", "reports-abc-s3alias/k").expect_decoded();
    assert!(permission_texts(&alias).contains(&"s3:GetObject arn:aws:s3:::reports-abc-s3alias/k".to_owned()));
    for source in [
        "arn:aws:s3:::prod-bucket/object/k",
        "arn:aws:s3:::prod-bucket/k",
        "arn:aws:s3:us-east-1:123456789012:accesspoint/reports",
        "arn:aws:s3:us-east-1:123456789012:accesspoint/reports/object/",
        "arn:aws:s3:us-east-1:123456789012:accesspoint//object/k",
        "arn:aws:s3:us-east-1::accesspoint/reports/object/k",
        "arn:aws:s3:us-east-1:123456789012:bucket/reports/object/k",
        "arn:aws:dynamodb:us-east-1:123456789012:table/t/object/k",
        "//arn:aws:s3:us-east-1:123456789012:accesspoint/reports/object/k",
    ] {
        copy("/example-bucket/k", source).expect_refused();
    }
}

#[test]
fn delete_objects_requires_permission_for_every_key() {
    let call = |body: &str| post_request("s3", "/example-bucket?delete").with_body(body);
    let read = call(
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b</Key></Object>\
         <Object><Key>c</Key><VersionId>v</VersionId></Object></Delete>",
    )
    .expect_decoded();
    assert_eq!(
        permission_texts(&read),
        [
            "s3:DeleteObject arn:aws:s3:::example-bucket/a&b",
            "s3:DeleteObjectVersion arn:aws:s3:::example-bucket/c"
        ]
    );
    for bad in [
        "<Delete/>",
        "<Other><Object><Key>a</Key></Object></Other>",
        "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
        "<Delete><object><Key>a</Key></object></Delete>",
        "<Delete><Object><Key>a<!-- x -->b</Key></Object></Delete>",
        "<!DOCTYPE d [<!ENTITY x 'a'>]><Delete><Object><Key>&x;</Key></Object></Delete>",
        "<Delete><Object><Key><b/></Key></Object></Delete>",
        "",
    ] {
        call(bad).expect_refused();
    }
}

#[test]
fn a_bucket_that_begins_as_an_arn_is_the_arn_of_an_access_point_or_refused() {
    let point = "arn:aws:s3:eu-west-1:111122223333:accesspoint/data";
    for arn in [
        point,
        "arn:aws:s3:eu-west-1:111122223333:accesspoint:data",
        "arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap",
        "arn:aws:s3-object-lambda:eu-west-1:111122223333:accesspoint/data",
        "arn:aws:s3-outposts:eu-west-1:111122223333:outpost/op-1/accesspoint/data",
    ] {
        let read = get_request("s3", &format!("/{}/k", arn.replace('/', "%2F"))).expect_decoded();
        assert_eq!(permission_texts(&read), [format!("s3:GetObject {arn}/object/k")]);
        let hosted = get_request("s3", "/k").with_bucket_host(arn).expect_decoded();
        assert_eq!(permission_texts(&hosted), [format!("s3:GetObject {arn}/object/k")]);
        let copy = put_request("s3", "/example-bucket/k")
            .with_header("x-amz-copy-source", format!("{arn}/object/k").as_str())
            .expect_decoded();
        assert!(permission_texts(&copy).contains(&format!("s3:GetObject {arn}/object/k")), "{copy:?}");
    }
    for bad in [
        "arn:",
        "arn:aws:s3",
        "arn:aws:s3:::prod-data",
        "arn:aws:s3:eu-west-1:111122223333:prod-data",
        "arn:aws:s3:eu-west-1:111122223333:accesspoint/",
        "arn:aws:s3:eu-west-1:111122223333:accesspoint/a/b",
        "arn:aws:s3:eu-west-1:111122223333:accesspoint/..",
        "arn:aws:s3:*:111122223333:accesspoint/data",
        "arn:aws:s3:eu-west-1:*:accesspoint/data",
        "arn:aws:s3:eu-west-1:11112222333:accesspoint/data",
        "arn:aws:s3-outposts::111122223333:outpost/op-1/accesspoint/data",
        "arn:aws:dynamodb:eu-west-1:111122223333:accesspoint/data",
        "arn:aws:s3:eu-west-1:111122223333:accesspoint/da%74a%20",
    ] {
        let label = format!("/{}/k", bad.replace('/', "%2F"));
        assert_eq!(get_request("s3", &label).expect_refused(), RefusalReason::Malformed, "{bad}");
        let source = format!("{bad}/object/k");
        put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", &source).expect_refused();
    }
    let on_outpost = "arn:aws:s3-outposts:eu-west-1:111122223333:outpost/op-1/object/k";
    put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", on_outpost).expect_decoded();
}
