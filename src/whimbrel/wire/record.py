"""The records of PutVectors: from what the native scanner found to the engine's batch, checked by the model.

The scanner already refused wrong JSON types. What is left is what the service model says of `vectors` and of
each key, without ever making one Python object per record that is fine.
"""

from typing import Final

import numpy as np

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import Blobs

KEY_BYTES_MAX: Final = 1024
KEY_BYTES_TEXT: Final = "Record key length exceeds the maximum allowed"


def check_key_bytes(keys: Blobs, *, path: str) -> None:
    """Checks the length of keys in bytes, which AWS bounds besides the length in characters.

    Args:
        keys: UTF-8.
        path: of a key in the request, `{}` standing for its position.

    Raises:
        InvalidRequestError: a key is too long.
    """
    too_long = np.flatnonzero(np.diff(keys.offsets) > KEY_BYTES_MAX)
    if len(too_long):
        raise InvalidRequestError(KEY_BYTES_TEXT, (path.format(int(too_long[0])), KEY_BYTES_TEXT))
