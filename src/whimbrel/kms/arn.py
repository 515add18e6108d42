"""ARNs of KMS keys: full ones of keys alone, no aliases and no bare ids, as S3 Vectors wants them."""

import re
from dataclasses import dataclass
from typing import Final

_KEY_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[-a-z]*):kms:(?P<region>[a-z0-9-]{1,64}):(?P<account>[0-9]{12}):key/"
    r"(?P<key>mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class KeyArn:
    """The parts of a key's ARN."""

    partition: str
    region: str
    account_id: str
    key_id: str

    def __str__(self) -> str:
        """Returns it as it is written."""
        return f"arn:{self.partition}:kms:{self.region}:{self.account_id}:key/{self.key_id}"


def parse_key_arn(text: str) -> KeyArn | None:
    """Reads the ARN of a key; returns None for anything else, aliases and ids among it."""
    match = _KEY_ARN.fullmatch(text)
    if match is None:
        return None
    return KeyArn(match["partition"], match["region"], match["account"], match["key"])
