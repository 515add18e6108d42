"""Every way a request can fail authentication, with the AWS code and text it is answered with.

AWS words the same refusal differently per protocol: JSON services end their codes in `Exception`, STS and IAM (the
query protocol) do not. `docs/reference/authentication.md` tables all of them; a test keeps the two equal.
"""

from enum import Enum
from typing import Final

from whimbrel.core.errors import DeniedError

STS: Final = "sts"
IAM: Final = "iam"
QUERY_SERVICES: Final = frozenset((STS, IAM))


class Refusal(Enum):
    """A reason to refuse: (code for JSON services, code for STS and IAM)."""

    MISSING = ("MissingAuthenticationTokenException", "MissingAuthenticationToken")
    INCOMPLETE = ("IncompleteSignatureException", "IncompleteSignature")
    MISMATCH = ("InvalidSignatureException", "SignatureDoesNotMatch")
    UNKNOWN_KEY = ("UnrecognizedClientException", "InvalidClientTokenId")
    EXPIRED = ("ExpiredTokenException", "ExpiredToken")
    FORBIDDEN = ("AccessDeniedException", "AccessDenied")

    def error(self, service: str, message: str) -> DeniedError:
        """Makes the error to raise for a request that was routed to `service`."""
        json_code, query_code = self.value
        return DeniedError(query_code if service in QUERY_SERVICES else json_code, message)


MISSING_TOKEN_TEXT: Final = "Missing Authentication Token"
MISMATCH_TEXT: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)
UNKNOWN_KEY_TEXT: Final = "The security token included in the request is invalid."
EXPIRED_TEXT: Final = "The security token included in the request is expired"
SESSION_TOKEN_TEXT: Final = (
    "The security token included in the request is invalid. This access key has no session token: unset "
    "AWS_SESSION_TOKEN."
)
HOST_UNSIGNED_TEXT: Final = (
    "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization header."
)
HEADERS_UNSIGNED_TEXT: Final = (
    "There were headers present in the request which were not signed: {names}"
)
PRESIGNED_TEXT: Final = (
    "Signatures in the query string are not supported. Sign with the Authorization header."
)
PAYLOAD_UNSIGNED_TEXT: Final = "Unsigned and streamed payloads are not supported: x-amz-content-sha256 must be the SHA-256 of the body."
PAYLOAD_MISMATCH_TEXT: Final = (
    "The provided 'x-amz-content-sha256' header does not match what was computed."
)
