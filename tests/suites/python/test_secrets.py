"""Secrets Manager, SSM and KMS: what AWS's models mark sensitive reaches only callers who may reveal it."""

import pytest

from conftest import GATEWAY_URL

SECRET = "correct horse battery staple 7f3a"


def masked(value):
    """What a caller without `reveal` sees instead of SECRET; directly at the emulator nothing is masked."""
    if not GATEWAY_URL:
        return value == SECRET
    return value != SECRET and SECRET not in value


@pytest.fixture
def secret(client, name):
    client("secretsmanager").create_secret(Name=name, SecretString=SECRET)
    return name


def test_secret_is_masked_for_the_agent(client, secret):
    response = client("secretsmanager").get_secret_value(SecretId=secret)
    assert masked(response["SecretString"])
    assert response["Name"] == secret


def test_secret_is_revealed_to_who_may_see_it(client, secret):
    assert client("secretsmanager", "sre").get_secret_value(SecretId=secret)["SecretString"] == SECRET


def test_binary_secret_is_masked_and_still_valid(client, name):
    client("secretsmanager").create_secret(Name=name, SecretBinary=SECRET.encode())
    value = client("secretsmanager").get_secret_value(SecretId=name)["SecretBinary"]
    assert masked(value.decode("latin-1"))
    assert client("secretsmanager", "sre").get_secret_value(SecretId=name)["SecretBinary"] == SECRET.encode()


def test_lists_secrets_by_pages(client, secret):
    pages = client("secretsmanager").get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 2})
    assert secret in [found["Name"] for page in pages for found in page["SecretList"]]


def test_missing_secret_is_typed(client, name):
    secretsmanager = client("secretsmanager")
    with pytest.raises(secretsmanager.exceptions.ResourceNotFoundException):
        secretsmanager.get_secret_value(SecretId=name)


def test_secure_parameter_is_masked(client, name):
    ssm, path = client("ssm"), f"/{name}/password"
    ssm.put_parameter(Name=path, Value=SECRET, Type="SecureString")
    parameter = ssm.get_parameter(Name=path, WithDecryption=True)["Parameter"]
    assert masked(parameter["Value"])
    assert parameter["Type"] == "SecureString"
    revealed = client("ssm", "sre").get_parameter(Name=path, WithDecryption=True)["Parameter"]
    assert revealed["Value"] == SECRET


@pytest.mark.moto  # ministack judges GetParametersByPath on `*`
def test_parameters_by_path(client, name):
    ssm = client("ssm")
    for number in range(5):
        ssm.put_parameter(Name=f"/{name}/{number}", Value=SECRET, Type="String")
    pages = list(ssm.get_paginator("get_parameters_by_path").paginate(
        Path=f"/{name}", PaginationConfig={"PageSize": 2}
    ))
    found = [parameter for page in pages for parameter in page["Parameters"]]
    assert len(found) == 5
    assert all(masked(parameter["Value"]) for parameter in found)


def test_missing_parameter_is_typed(client, name):
    ssm = client("ssm")
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name=f"/{name}/none")


def test_kms_encrypts_and_only_some_see_the_plaintext(client):
    kms = client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=SECRET.encode())["CiphertextBlob"]
    assert masked(kms.decrypt(CiphertextBlob=sealed, KeyId=key)["Plaintext"].decode("latin-1"))
    assert client("kms", "sre").decrypt(CiphertextBlob=sealed, KeyId=key)["Plaintext"] == SECRET.encode()


def test_missing_key_is_typed(client):
    kms = client("kms")
    with pytest.raises(kms.exceptions.NotFoundException):
        kms.describe_key(KeyId="00000000-1111-2222-3333-444444444444")
