"""How to reach a cloud store. Apart from `cloud`, so that settings can be made without importing the SDK."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """How to reach a cloud store. What is empty comes from the SDK's environment variables, or its defaults.

    Attributes:
        endpoint: address of an S3-compatible store; `http://` is allowed for what runs on this machine or network.
        region: region of the bucket.
        is_path_style: whether the bucket is part of the path rather than of the host name.
        access_key_id: with `secret_access_key`, and perhaps `session_token`, the credentials.
        secret_access_key: see `access_key_id`.
        session_token: see `access_key_id`.
        connect_timeout_s: longest wait for a connection.
        request_timeout_s: longest wait for a request's whole answer, plus the time its bytes may take.
        bytes_per_second_min: the slowest transfer that is waited for.
        requests_max: most requests under way at once.
    """

    endpoint: str = ""
    region: str = ""
    is_path_style: bool = False
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 15.0
    bytes_per_second_min: float = 1 << 20
    requests_max: int = 128
