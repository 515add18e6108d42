"""Calls a server that has no connection left until the client has tried often enough.

retrying.py RELEASE_AFTER    a connection of this program's own is closed before the attempt of that number, from 1;
                             0 keeps it

Prints how the call ended and how many attempts it took.
"""

import json
import os
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError


def wait_until_closed(connection: socket.socket, address: tuple[str, int]) -> None:
    """Closes a connection, then returns as soon as the server takes another in its place."""
    connection.close()
    while True:
        with socket.create_connection(address) as probe:
            probe.sendall(
                b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
            if b" 200 " in probe.makefile("rb").readline():
                return


def main() -> None:
    release_before = int(sys.argv[1])
    parts = urlsplit(os.environ["AWS_ENDPOINT_URL_S3VECTORS"])
    assert parts.hostname is not None
    assert parts.port is not None
    address = (parts.hostname, parts.port)
    held = socket.create_connection(address)
    held.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b" 200 " in held.makefile("rb").readline()
    attempts = 0

    def before_send(**_: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == release_before:
            wait_until_closed(held, address)

    client = boto3.client("s3vectors")
    client.meta.events.register("before-send.s3vectors", before_send)
    said: dict[str, Any]
    try:
        answer = client.list_vector_buckets()
        said = {"status": 200, "retries": answer["ResponseMetadata"]["RetryAttempts"]}
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        said = {"status": metadata["HTTPStatusCode"], "retries": metadata["RetryAttempts"]}
        said["class"] = type(error).__name__
        said["code"] = error.response["Error"]["Code"]
    json.dump(said | {"attempts": attempts}, sys.stdout)


if __name__ == "__main__":
    main()
