"""Extensions for the AWS SDK for Python: `extend` gives a boto3 client of S3 Vectors their methods and paginators.

Nothing of the SDK is imported before `extend` is called.
"""

from whimbrel.sdk.client import extend

__all__ = ["extend"]
