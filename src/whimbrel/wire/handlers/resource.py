"""Which resource a call is about, by names or ARN; the errors are those of `wire.naming`."""

from whimbrel.wire.naming import resolve_bucket, resolve_index
from whimbrel.wire.service import Call


def bucket_of(call: Call) -> str:
    """Returns the name of the vector bucket that a call means."""
    return resolve_bucket(call.input, account_id=call.service.arns.account_id)


def index_of(call: Call) -> tuple[str, str]:
    """Returns the names of the vector bucket and the index that a call means."""
    return resolve_index(call.input, account_id=call.service.arns.account_id)
