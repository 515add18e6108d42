"""Policies of vector buckets: checked and stored; `wire.access` goes by them."""

from whimbrel.auth.policy import PolicyKind, parse_policy
from whimbrel.auth.policy.limits import BUCKET_BYTES_MAX
from whimbrel.core.errors import InvalidRequestError, PolicyError
from whimbrel.wire.handlers.resource import bucket_of
from whimbrel.wire.output import Answer, EmptyOutput, GetVectorBucketPolicyOutput
from whimbrel.wire.service import Call


def check_policy(text: str) -> None:
    """Checks the policy of a vector bucket.

    Raises:
        InvalidRequestError: it is too large, not JSON, or no policy of a resource.
    """
    try:
        parse_policy(text, PolicyKind.RESOURCE, bytes_max=BUCKET_BYTES_MAX)
    except PolicyError as error:
        message = f"Invalid vector bucket policy: {error.message}"
        raise InvalidRequestError(message, ("policy", message)) from None


async def put_vector_bucket_policy(call: Call) -> Answer:
    """Stores a policy as it was given, after checking it."""
    name = bucket_of(call)
    check_policy(call.input["policy"])
    await call.service.engine.put_bucket_policy(name, call.input["policy"])
    return EmptyOutput()


async def get_vector_bucket_policy(call: Call) -> Answer:
    """Returns the policy as it was given."""
    return GetVectorBucketPolicyOutput(await call.service.engine.get_bucket_policy(bucket_of(call)))


async def delete_vector_bucket_policy(call: Call) -> Answer:
    """Removes the policy."""
    await call.service.engine.delete_bucket_policy(bucket_of(call))
    return EmptyOutput()
