"""DynamoDB: waiters, paginators, batches, transactions, typed errors, the resource API."""

import os
from decimal import Decimal

import pytest
from boto3.dynamodb.conditions import Key


@pytest.fixture(scope="module")
def table(client):
    dynamodb = client("dynamodb")
    made = f"dw-{os.urandom(5).hex()}"
    dynamodb.create_table(
        TableName=made,
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.get_waiter("table_exists").wait(TableName=made, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
    return made


def item(pk, sk, **more):
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}} | more


def test_puts_and_gets_every_kind_of_value(client, table):
    dynamodb = client("dynamodb")
    stored = item(
        "kinds", 1, text={"S": "ü \N{GRINNING FACE} <&>\"\\"}, blob={"B": bytes(range(256))}, truth={"BOOL": True},
        nothing={"NULL": True}, many={"L": [{"N": "1"}, {"S": "two"}]}, deep={"M": {"a": {"M": {"b": {"N": "3"}}}}},
        names={"SS": ["a", "b"]},
    )
    dynamodb.put_item(TableName=table, Item=stored)
    found = dynamodb.get_item(TableName=table, Key=item("kinds", 1), ConsistentRead=True)["Item"]
    found["names"]["SS"].sort()
    assert found == stored


def test_queries_and_scans_by_pages(client, table):
    dynamodb = client("dynamodb")
    for number in range(7):
        dynamodb.put_item(TableName=table, Item=item("pages", number))
    query = dynamodb.get_paginator("query").paginate(
        TableName=table, KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": "pages"}},
        PaginationConfig={"PageSize": 3},
    )
    pages = list(query)
    assert len(pages) >= 3
    assert [int(found["sk"]["N"]) for page in pages for found in page["Items"]] == list(range(7))
    scan = dynamodb.get_paginator("scan").paginate(TableName=table, PaginationConfig={"PageSize": 2})
    assert sum(found["pk"]["S"] == "pages" for page in scan for found in page["Items"]) == 7


def test_updates_and_returns_the_new_value(client, table):
    dynamodb = client("dynamodb")
    for expected in ("1", "2"):
        response = dynamodb.update_item(
            TableName=table, Key=item("count", 0), UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}}, ReturnValues="UPDATED_NEW",
        )
        assert response["Attributes"]["n"] == {"N": expected}


def test_batches(client, table):
    dynamodb = client("dynamodb")
    dynamodb.batch_write_item(RequestItems={
        table: [{"PutRequest": {"Item": item("batch", number)}} for number in range(20)]
    })
    response = dynamodb.batch_get_item(RequestItems={table: {"Keys": [item("batch", number) for number in range(20)]}})
    assert len(response["Responses"][table]) == 20


def test_transaction_that_fails_is_typed_and_changes_nothing(client, table):
    dynamodb = client("dynamodb")
    put = {"TableName": table, "Item": item("transaction", 1)}
    check = {"TableName": table, "Key": item("transaction", 99), "ConditionExpression": "attribute_exists(pk)"}
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
        dynamodb.transact_write_items(TransactItems=[{"Put": put}, {"ConditionCheck": check}])
    assert "Item" not in dynamodb.get_item(TableName=table, Key=item("transaction", 1))


def test_failed_condition_is_typed(client, table):
    dynamodb = client("dynamodb")
    dynamodb.put_item(TableName=table, Item=item("condition", 1))
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(TableName=table, Item=item("condition", 1), ConditionExpression="attribute_not_exists(pk)")


def test_missing_table_is_typed(client):
    dynamodb = client("dynamodb")
    with pytest.raises(dynamodb.exceptions.ResourceNotFoundException):
        dynamodb.describe_table(TableName="dw-no-such-table")


def test_resource_api(sessions, table):
    rows = sessions("agent").resource("dynamodb").Table(table)
    with rows.batch_writer() as batch:
        for number in range(3):
            batch.put_item(Item={"pk": "resource", "sk": number, "price": Decimal("1.50")})
    found = rows.query(KeyConditionExpression=Key("pk").eq("resource") & Key("sk").gte(1))
    assert [row["sk"] for row in found["Items"]] == [1, 2]


def test_lists_tables(client, table):
    pages = client("dynamodb").get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 1})
    assert table in [found for page in pages for found in page["TableNames"]]


def test_large_response(client, table):
    dynamodb = client("dynamodb")
    for number in range(10):
        dynamodb.put_item(TableName=table, Item=item("large", number, filler={"S": "x" * 90_000}))
    response = dynamodb.query(
        TableName=table, KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": "large"}}
    )
    assert sum(len(found["filler"]["S"]) for found in response["Items"]) == 900_000
