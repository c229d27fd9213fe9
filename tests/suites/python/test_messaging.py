"""SQS and SNS: the queue address that leads back through the gateway, batches, fan-out, typed errors."""

import hashlib
import json
import urllib.parse

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from conftest import GATEWAY_URL, REGION


@pytest.fixture
def queue(client, name):
    return client("sqs").create_queue(QueueName=name)["QueueUrl"]


@pytest.mark.gateway
def test_queue_urls_lead_to_the_gateway(client, queue, name):
    sqs = client("sqs")
    assert queue.startswith(GATEWAY_URL + "/")
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == queue
    assert queue in sqs.list_queues(QueueNamePrefix=name)["QueueUrls"]


def test_message_there_and_back(client, queue):
    sqs = client("sqs")
    text = "ü <tag> & \"quoted\" \N{GRINNING FACE}"
    sqs.send_message(QueueUrl=queue, MessageBody=text, MessageAttributes={"kind": {"DataType": "String", "StringValue": "t"}})
    response = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"], WaitTimeSeconds=2)
    [message] = response["Messages"]
    assert message["Body"] == text
    assert message["MessageAttributes"]["kind"]["StringValue"] == "t"
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "0"


@pytest.mark.gateway
def test_digests_fit_a_masked_message(client, queue):
    """The JavaScript, Java and .NET SDKs refuse the whole response if `MD5OfBody` is not the digest of the body that came."""
    sqs = client("sqs")
    attributes = {"key": {"DataType": "String", "StringValue": "AKIAIOSFODNN7EXAMPLE"},
                  "bytes": {"DataType": "Binary", "BinaryValue": b"\xff\x00IQoJ" + bytes(range(200))}}
    sqs.send_message(QueueUrl=queue, MessageBody="rotated to AKIAIOSFODNN7EXAMPLE", MessageAttributes=attributes)
    [message] = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"], WaitTimeSeconds=2)["Messages"]
    assert message["Body"] == "rotated to [masked: aws-key]"
    assert message["MD5OfBody"] == hashlib.md5(message["Body"].encode()).hexdigest()
    received = message["MessageAttributes"]
    assert received["key"]["StringValue"] == "[masked: aws-key]"
    assert received["bytes"]["BinaryValue"] == attributes["bytes"]["BinaryValue"]
    assert message["MD5OfMessageAttributes"] == digest_of_attributes(received)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def digest_of_attributes(attributes):
    """SQS Developer Guide, "Calculating the MD5 message digest for message attributes"."""
    digest = hashlib.md5()

    def add(part):
        digest.update(len(part).to_bytes(4, "big") + part)

    for name, value in sorted(attributes.items()):
        add(name.encode())
        add(value["DataType"].encode())
        binary = value["DataType"].startswith("Binary")
        digest.update(b"\x02" if binary else b"\x01")
        add(value["BinaryValue"] if binary else value["StringValue"].encode())
    return digest.hexdigest()


@pytest.mark.moto  # ministack asks for an action sqs:SendMessageBatch, which AWS does not have
def test_batch_reports_each_entry(client, queue):
    sqs = client("sqs")
    entries = [{"Id": str(number), "MessageBody": f"m{number}"} for number in range(10)]
    assert len(sqs.send_message_batch(QueueUrl=queue, Entries=entries)["Successful"]) == 10


def test_missing_queue_is_typed(client, name):
    sqs = client("sqs")
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName=name)


def test_topic_fans_out_to_a_queue(client, queue, name):
    sqs, sns = client("sqs"), client("sns")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name=name)["TopicArn"]
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn,
    }]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    sns.publish(TopicArn=topic, Subject="s", Message="fan & out")
    [message] = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    assert json.loads(message["Body"])["Message"] == "fan & out"


def test_lists_topics_by_pages(client, name):
    sns = client("sns")
    topic = sns.create_topic(Name=name)["TopicArn"]
    pages = sns.get_paginator("list_topics").paginate()
    assert topic in [found["TopicArn"] for page in pages for found in page["Topics"]]


def test_missing_topic_is_typed(client, name):
    sns = client("sns")
    existing = sns.create_topic(Name=name)["TopicArn"]
    with pytest.raises(sns.exceptions.NotFoundException):
        sns.publish(TopicArn=existing + "-gone", Message="x")


@pytest.mark.gateway
def test_query_protocol_of_older_sdks(sessions, client, queue, name):
    """SDKs before the end of 2023 speak the query protocol to SQS: understood, but not at a queue's own address."""

    def call(url, form):
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        request = AWSRequest("POST", url, data=f"{form}&Version=2012-11-05", headers=headers)
        SigV4Auth(sessions("agent").get_credentials(), "sqs", REGION).add_auth(request)
        response = URLLib3Session().send(request.prepare())
        return response.status_code, response.text

    root = GATEWAY_URL + "/"
    send = f"Action=SendMessage&QueueUrl={urllib.parse.quote(queue, '')}&MessageBody=old"
    for form in [f"Action=GetQueueUrl&QueueName={name}", f"Action=ListQueues&QueueNamePrefix={name}"]:
        status, text = call(root, form)
        assert status == 200 and f"<QueueUrl>{queue}</QueueUrl>" in text
    assert call(root, send)[0] == 200
    [message] = client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=2)["Messages"]
    assert message["Body"] == "old"
    status, text = call(queue, send)
    assert status == 400 and "a query request goes to the path /" in text
