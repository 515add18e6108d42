"""ARNs of vector buckets and indexes: reading a client's, writing ours.

A server holds one namespace. An ARN of any partition and region is read as ours, because a request may be
signed for any region; one of another account names nothing here, and is answered like any other name that is
not there.
"""

import re
from dataclasses import dataclass
from typing import Final

_ARN = re.compile(
    r"arn:aws[-a-z0-9]*:s3vectors:[a-z0-9-]+:([0-9]{12}):bucket/([^/]+)(?:/index/([^/]+))?",
    re.ASCII,
)
_PARTITIONS: Final = (
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eusc-", "aws-eusc"),
)


@dataclass(frozen=True, slots=True)
class Arn:
    """What an ARN names; `index_name` is None for a vector bucket."""

    account_id: str
    bucket_name: str
    index_name: str | None


def parse_arn(text: str) -> Arn | None:
    """Reads the ARN of a vector bucket or an index; returns None for anything else."""
    match = _ARN.fullmatch(text)
    return None if match is None else Arn(match[1], match[2], match[3])


class ArnFormat:
    """Writes the ARNs of one server's resources.

    Attributes:
        account_id: whose they are.
        key_prefix: what the ARNs of the keys of its own key store start with.
    """

    def __init__(self, *, region: str, account_id: str) -> None:
        self.region = region
        self.account_id = account_id
        partition = next((name for start, name in _PARTITIONS if region.startswith(start)), "aws")
        self._model_prefix = f"arn:{partition}:bedrock:{region}::foundation-model/"
        self.key_prefix = f"arn:{partition}:kms:{region}:{account_id}:key/"
        self._prefix = f"arn:{partition}:s3vectors:{region}:{account_id}:bucket/"

    def format_model(self, model_id: str) -> str:
        """Returns the ARN of a foundation model of Bedrock."""
        return self._model_prefix + model_id

    def format_bucket(self, bucket_name: str) -> str:
        """Returns the ARN of a vector bucket."""
        return self._prefix + bucket_name

    def format_index(self, bucket_name: str, index_name: str) -> str:
        """Returns the ARN of an index."""
        return f"{self._prefix}{bucket_name}/index/{index_name}"

    def format_resource(self, bucket_name: str, index_name: str) -> str:
        """Returns the ARN of an index; of the vector bucket itself where the index's name is empty."""
        if not index_name:
            return self.format_bucket(bucket_name)
        return self.format_index(bucket_name, index_name)
