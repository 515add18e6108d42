"""Images in requests: base64, as such or in a data URI, of a file that begins like one of the formats taken."""

import base64
import binascii
import re
from typing import Final

from whimbrel.embeddings import Image
from whimbrel.wire.bedrock.malformed import malformed

NOT_BASE64_TEXT: Final = "{pointer}: expected base64"
NOT_IMAGE_TEXT: Final = "{pointer}: expected an image of type PNG, JPEG, GIF or WebP"
NOT_URI_TEXT: Final = "{pointer}: expected a data URI with an image in base64"

_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,")
_WEBP_END: Final = 12


def read_base64(text: str, pointer: str) -> Image:
    """Returns an image of base64.

    Args:
        text: the base64.
        pointer: where it stands in the request.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise malformed(NOT_BASE64_TEXT.format(pointer=pointer)) from None
    if not _is_image(data):
        raise malformed(NOT_IMAGE_TEXT.format(pointer=pointer))
    return Image(data)


def read_data_uri(text: str, pointer: str) -> Image:
    """Returns an image of a data URI, or of base64 as such, as AWS's own command sends it; see `read_base64`."""
    if not text.startswith("data:"):
        return read_base64(text, pointer)
    head = _DATA_URI.match(text)
    if head is None:
        raise malformed(NOT_URI_TEXT.format(pointer=pointer))
    return read_base64(text[head.end() :], pointer)


def _is_image(data: bytes) -> bool:
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")):
        return True
    return data.startswith(b"RIFF") and data[8:_WEBP_END] == b"WEBP"
