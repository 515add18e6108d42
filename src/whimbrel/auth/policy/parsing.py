"""Makes a compiled policy of its text."""

from whimbrel.auth.policy.document import Policy, PolicyKind
from whimbrel.core.errors import PolicySizeError
from whimbrel.kernel.strict_json import parse_strict


def parse_policy(text: str, kind: PolicyKind, *, bytes_max: int, name: str = "") -> Policy:
    """Parses and checks a policy.

    Args:
        text: its JSON.
        kind: what it is to be attached to.
        bytes_max: how large it may be; see `whimbrel.auth.policy.limits`.
        name: what decisions call it by.

    Raises:
        PolicyError: it is no policy of this kind.
    """
    if len(text) > bytes_max:
        raise PolicySizeError("", f"must have at most {bytes_max} bytes")
    return Policy(kind=kind, document=parse_strict(text.encode()), name=name)
