"""Says whom a boto3 client talks to and what comes of it, as its environment and configuration files have it.

configured.py            calls both services
configured.py resolve    only says which address it would call; nothing is sent
"""

import json
import sys
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def outcome(operation: Any) -> dict[str, Any]:
    """Returns what a call came to, as JSON can hold it."""
    try:
        answer = operation()
    except ClientError as error:
        return {
            "code": error.response["Error"]["Code"],
            "message": error.response["Error"]["Message"],
            "class": type(error).__name__,
            "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            "retries": error.response["ResponseMetadata"]["RetryAttempts"],
        }
    except BotoCoreError as error:
        return {"code": type(error).__name__, "message": str(error)}
    return {
        "code": "",
        "retries": answer["ResponseMetadata"]["RetryAttempts"],
        "account": answer.get("Account"),
    }


class IntendedError(Exception):
    """Raised in place of sending a request; its text is where that would have gone."""


def address_of(client: Any, operation: Any) -> str:
    """Returns the address that an operation would call."""

    def before_send(request: Any, **_: Any) -> None:
        raise IntendedError(request.url)

    client.meta.events.register("before-send", before_send)
    try:
        operation()
    except IntendedError as error:
        return str(error)
    raise AssertionError("a request was sent")


def main() -> None:
    session = boto3.Session()
    s3vectors, sts = session.client("s3vectors"), session.client("sts")
    said: dict[str, Any] = {"region": s3vectors.meta.region_name}
    if "resolve" in sys.argv[1:]:
        said["s3vectors"] = address_of(s3vectors, s3vectors.list_vector_buckets)
        said["sts"] = address_of(sts, sts.get_caller_identity)
    else:
        said["endpoint"] = s3vectors.meta.endpoint_url
        said["s3vectors"] = outcome(s3vectors.list_vector_buckets)
        said["sts"] = outcome(sts.get_caller_identity)
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
