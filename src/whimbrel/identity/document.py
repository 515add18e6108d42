"""Texts of policies, as they are stored and as they are counted."""

import re
from typing import Final

# A string of JSON, or white space outside of strings.
_TOKEN: Final = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\n\r]+')


def compact_policy(document: str) -> str:
    """Returns a policy without white space between its tokens, and else as it was given.

    Quotas do not count white space, so it must not take room either.

    Args:
        document: JSON.
    """
    return _TOKEN.sub(lambda match: match[1] or "", document)


def count_policy_chars(document: str) -> int:
    """Returns how long a policy is for the quotas: white space does not count."""
    return sum(not char.isspace() for char in document)
