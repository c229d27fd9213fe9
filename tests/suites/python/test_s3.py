"""S3 as applications use it: odd keys, paginators, waiters, ranges, copies, multipart transfers, presigned URLs, typed errors."""

import hashlib
import io
import os
import threading
import urllib.error
import urllib.request

import pytest
from boto3.s3.transfer import TransferConfig

from conftest import GATEWAY_URL, KIND

# ministack judges an object by its key with empty segments dropped, and knows no ${?} in a session policy
ODD_FOR_MINISTACK = {"a b+c/ü//x/../y", "trailing/", "query?like&key=value#fragment", "~tilde-._!*'()"}
ODD_FOR_MINISTACK |= {'quote"and:colon;semi,comma@at$dollar'}
ODD_KEYS = [
    "plain.txt",
    "with space and+plus",
    "a b+c/ü//x/../y",
    "per%cent%20encoded",
    "query?like&key=value#fragment",
    "emoji-\N{GRINNING FACE}/日本語",
    "trailing/",
    "~tilde-._!*'()",
    'quote"and:colon;semi,comma@at$dollar',
    "dot/./segment",
]
MIB = 1 << 20


@pytest.fixture(scope="module")
def bucket(client):
    s3 = client("s3")
    made = f"dw-{os.urandom(5).hex()}"
    s3.create_bucket(Bucket=made)
    s3.get_waiter("bucket_exists").wait(Bucket=made, WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    return made


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_survive_the_way_there_and_back(client, bucket, key):
    if GATEWAY_URL and KIND == "ministack" and key in ODD_FOR_MINISTACK:
        pytest.skip("ministack resolves this key to another ARN than AWS does")
    s3 = client("s3")
    body = f"body of {key}".encode()
    s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/plain", Metadata={"origin": "suite"})
    response = s3.get_object(Bucket=bucket, Key=key)
    assert response["Body"].read() == body
    assert response["ContentType"] == "text/plain"
    head = s3.head_object(Bucket=bucket, Key=key)
    assert head["ContentLength"] == len(body)
    assert head["Metadata"] == {"origin": "suite"}
    s3.delete_object(Bucket=bucket, Key=key)
    listed = s3.list_objects_v2(Bucket=bucket, EncodingType="url").get("Contents", [])
    assert key not in [found["Key"] for found in listed]


def test_empty_object(client, bucket):
    s3 = client("s3")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert s3.get_object(Bucket=bucket, Key="empty")["Body"].read() == b""


def test_lists_buckets(client, bucket):
    assert bucket in [found["Name"] for found in client("s3").list_buckets()["Buckets"]]


def test_paginator_walks_every_page(client, bucket):
    s3 = client("s3")
    wanted = [f"page/{number:02}" for number in range(10)]
    for key in wanted:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = list(s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="page/", PaginationConfig={"PageSize": 3}
    ))
    assert len(pages) == 4
    assert [found["Key"] for page in pages for found in page["Contents"]] == wanted
    folders = s3.list_objects_v2(Bucket=bucket, Delimiter="/", Prefix="pa")
    assert [found["Prefix"] for found in folders["CommonPrefixes"]] == ["page/"]


def test_deletes_many_at_once(client, bucket):
    s3 = client("s3")
    keys = ["many/one", "many/two & <three>"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    response = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert sorted(found["Key"] for found in response["Deleted"]) == sorted(keys)


def test_copies_an_object_with_an_odd_name(client, bucket):
    s3 = client("s3")
    source = "copy/from ü+%"
    s3.put_object(Bucket=bucket, Key=source, Body=b"copied")
    s3.copy_object(Bucket=bucket, Key="copy/to", CopySource={"Bucket": bucket, "Key": source})
    assert s3.get_object(Bucket=bucket, Key="copy/to")["Body"].read() == b"copied"


def test_reads_a_range(client, bucket):
    s3 = client("s3")
    s3.put_object(Bucket=bucket, Key="range", Body=bytes(range(100)))
    response = s3.get_object(Bucket=bucket, Key="range", Range="bytes=10-19")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert response["ContentRange"] == "bytes 10-19/100"
    assert response["Body"].read() == bytes(range(10, 20))


def test_conditional_get_returns_not_modified(client, bucket, failure):
    s3 = client("s3")
    tag = s3.put_object(Bucket=bucket, Key="conditional", Body=b"x")["ETag"]
    refused = failure(s3.get_object, Bucket=bucket, Key="conditional", IfNoneMatch=tag)
    assert refused.status == 304


def test_tags_an_object(client, bucket):
    s3 = client("s3")
    s3.put_object(Bucket=bucket, Key="tagged", Body=b"x", Tagging="team=red%20one&stage=test")
    tags = s3.get_object_tagging(Bucket=bucket, Key="tagged")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "red one", "stage": "test"}


def test_versions(client, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=name, Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket=name, Key="k", Body=b"2")
    assert s3.get_object(Bucket=name, Key="k", VersionId=first)["Body"].read() == b"1"
    assert len(s3.list_object_versions(Bucket=name)["Versions"]) == 2


def test_multipart_transfer_both_ways(client, bucket):
    s3 = client("s3")
    body = os.urandom(17 * MIB + 12_345)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), bucket, "large", Config=config)
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-3"')
    back = io.BytesIO()
    s3.download_fileobj(bucket, "large", back, Config=config)
    assert hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(body).digest()


def test_abandoned_multipart_upload_is_listed_and_aborted(client, bucket):
    s3 = client("s3")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="abandoned")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="abandoned", UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    assert len(s3.list_parts(Bucket=bucket, Key="abandoned", UploadId=upload)["Parts"]) == 1
    s3.abort_multipart_upload(Bucket=bucket, Key="abandoned", UploadId=upload)


def fetch(url, method="GET", body=None):
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.ministack
def test_presigned_put_and_get_work_without_credentials(client, bucket):
    s3 = client("s3", signature_version="s3v4")
    place = {"Bucket": bucket, "Key": "presigned/with space+ü"}
    status, _ = fetch(s3.generate_presigned_url("put_object", Params=place), "PUT", b"by link")
    assert status == 200
    assert fetch(s3.generate_presigned_url("get_object", Params=place)) == (200, b"by link")


@pytest.mark.ministack
def test_tampered_presigned_url_is_refused(client, bucket):
    s3 = client("s3", signature_version="s3v4")
    s3.put_object(Bucket=bucket, Key="presigned-tampered", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "presigned-tampered"})
    status, body = fetch(url.replace("presigned-tampered", "plain.txt"))
    assert (status, b"SignatureDoesNotMatch" in body) == (403, True)


@pytest.mark.gateway
def test_presigned_url_of_the_old_signature_version_gets_a_clear_refusal(client, bucket):
    url = client("s3", signature_version="s3").generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "old"}
    )
    status, body = fetch(url)
    assert status in (400, 403)
    assert b"<Error>" in body and b"<Code>" in body


def test_missing_key_is_typed(client, bucket):
    s3 = client("s3")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="missing")


def test_missing_bucket_is_typed(client):
    s3 = client("s3")
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.list_objects_v2(Bucket="dw-no-such-bucket-anywhere")


def test_missing_head_is_404(client, bucket, failure):
    assert failure(client("s3").head_object, Bucket=bucket, Key="missing").status == 404


def test_many_threads_share_one_client(client, bucket):
    s3 = client("s3", max_pool_connections=8)
    wrong = []

    def work(worker):
        for turn in range(5):
            key, body = f"threads/{worker}/{turn}", f"{worker}-{turn}".encode() * 100
            s3.put_object(Bucket=bucket, Key=key, Body=body)
            if s3.get_object(Bucket=bucket, Key=key)["Body"].read() != body:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="threads/")
    assert listed["KeyCount"] == 30


@pytest.mark.gateway
@pytest.mark.moto
def test_what_the_model_marks_is_masked_in_headers_too(client, bucket, direct):
    """The id of the key that sealed an object: a sensitive member of the response that travels as a header."""
    key = direct("kms").create_key()["KeyMetadata"]["Arn"]
    sealed = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    written = client("s3").put_object(Bucket=bucket, Key="sealed", Body=b"x", **sealed)
    assert written["SSEKMSKeyId"] == "[masked: aws-sensitive]"
    streamed = client("s3").get_object(Bucket=bucket, Key="sealed")
    assert streamed["SSEKMSKeyId"] == "[masked: aws-sensitive]" and streamed["Body"].read() == b"x"
    assert client("s3").head_object(Bucket=bucket, Key="sealed")["SSEKMSKeyId"] == "[masked: aws-sensitive]"
    assert client("s3", "sre").get_object(Bucket=bucket, Key="sealed")["SSEKMSKeyId"] == key
