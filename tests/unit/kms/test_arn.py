"""ARNs of keys: which texts are ones."""

import pytest

from whimbrel.kms.arn import parse_key_arn

ID = "12345678-1234-4234-8234-123456789012"


@pytest.mark.parametrize(
    "text",
    [
        f"arn:aws:kms:us-east-1:123456789012:key/{ID}",
        f"arn:aws-cn:kms:cn-north-1:123456789012:key/{ID}",
        "arn:aws:kms:eu-west-1:123456789012:key/mrk-0123456789abcdef0123456789abcdef",
    ],
)
def test_full_arns_are_read_and_written_back(text):
    arn = parse_key_arn(text)
    assert arn is not None
    assert str(arn) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID,
        "alias/x",
        "arn:aws:kms:us-east-1:123456789012:alias/x",
        f"arn:aws:kms:us-east-1:123456789012:key/{ID}\n",
        f"arn:aws:kms:us-east-1:123456789012:key/{ID.replace('1', 'A')}",
        f"arn:aws:kms::123456789012:key/{ID}",
        f"arn:aws:kms:us-east-1:12345678901:key/{ID}",
        f"arn:aws:kms:us-east-1:123456789012:key/{ID}/..",
        f"arn:aws:s3:us-east-1:123456789012:key/{ID}",
    ],
)
def test_all_else_is_none(text):
    assert parse_key_arn(text) is None
