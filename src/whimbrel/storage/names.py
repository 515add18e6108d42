"""Which names objects may have: those that every backend can hold.

A name is one or more parts joined by `/`. The limits are the narrowest of the backends': 1,024 bytes a name as on S3,
200 bytes a part so that file systems with room for 255 can hold it, no control characters, and no part starts with
`.`, so that a backend may keep files of its own beside objects. A name must not also be a folder of other names (`a`
and `a/b`): a directory cannot hold both. Names that differ only in case or in Unicode form are one name on some file
systems; the engine makes none.

Names come from `engine.paths`, never from a client, so a bad one is a programming error: `ValueError`.
"""

import re

NAME_BYTES_MAX = 1024
PART_BYTES_MAX = 200
LISTING_LIMIT_MAX = 1000

_PLAIN = re.compile(r"[a-z0-9][a-z0-9.-]{0,199}(?:/[a-z0-9][a-z0-9.-]{0,199})*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_name(key: str) -> None:
    """Checks the name of one object.

    Raises:
        ValueError: no backend may be asked for this name.
    """
    if len(key) <= NAME_BYTES_MAX and _PLAIN.fullmatch(key):
        return  # nearly every name, in half a microsecond
    if len(key.encode()) > NAME_BYTES_MAX:
        raise ValueError(f"name of an object is too long. key=`{key}`")
    if _CONTROL.search(key):
        raise ValueError(f"name of an object holds a control character. key=`{key!r}`")
    for part in key.split("/"):
        if not part or part[0] == "." or len(part.encode()) > PART_BYTES_MAX:
            raise ValueError(f"not a name of an object. key=`{key}`")


def check_listing(prefix: str, start_after: str, limit: int) -> None:
    """Checks the arguments of a listing.

    Raises:
        ValueError: one of them breaks the protocol.
    """
    if prefix:
        if not prefix.endswith("/"):
            raise ValueError(f"prefix must be empty or end with `/`. prefix=`{prefix}`")
        check_name(prefix[:-1])
    if _CONTROL.search(start_after) or len(start_after.encode()) > NAME_BYTES_MAX + 1:
        raise ValueError(f"not a name to list after. start_after=`{start_after}`")
    if not 1 <= limit <= LISTING_LIMIT_MAX:
        raise ValueError(f"limit must be 1 to {LISTING_LIMIT_MAX}. limit=`{limit}`")
