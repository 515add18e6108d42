"""A client for Python: the methods of boto3's `s3vectors` client, over a store in this process or over HTTP.

`connect` makes one. Layers, from above: connecting; the client with its methods, paginators, batches, retries; requests
and replies; a transport, `embedded` or `http`.
"""

from whimbrel.client.batches import PutProgress
from whimbrel.client.client import Client
from whimbrel.client.connecting import ConnectOptions, connect
from whimbrel.client.exceptions import ClientClosedError

__all__ = ["Client", "ClientClosedError", "ConnectOptions", "PutProgress", "connect"]
