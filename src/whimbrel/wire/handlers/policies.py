"""Policies of vector buckets: checked and stored; `wire.access` goes by them."""

from whimbrel.wire.bucket_policy import check_policy
from whimbrel.wire.handlers.resource import bucket_of
from whimbrel.wire.output import Answer, EmptyOutput, GetVectorBucketPolicyOutput
from whimbrel.wire.service import Call


async def put_vector_bucket_policy(call: Call) -> Answer:
    """Stores a policy as it was given, after checking its JSON and grammar."""
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
