"""Images of clients, opened with suspicion: of few formats, and with no more pixels than memory has room for."""

import io
from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError
from whimbrel.embeddings.providers.packages import import_package

# What the formats of requests know; Pillow reads many more, some of them by starting other programs.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
# A file of some KB can hold a picture of gigabytes; this many take 160 MB at most.
PIXEL_COUNT_MAX: Final = 40_000_000
COMMAND: Final = "pip install pillow"
UNREADABLE_TEXT: Final = "The image cannot be read. It must be a JPEG, PNG, WEBP or GIF"


def open_picture(data: bytes) -> Any:
    """Returns a PIL image, decoded, as RGB; close it.

    Raises:
        InvalidRequestError: it is none, is damaged, or has too many pixels.
        ModelNotReadyError: Pillow is not installed.
    """
    pil = import_package("PIL.Image", command=COMMAND)
    try:
        with pil.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height <= PIXEL_COUNT_MAX:
                return picture.convert("RGB")
    except Exception as error:
        raise InvalidRequestError(UNREADABLE_TEXT) from error
    raise InvalidRequestError(
        f"The image has {width} x {height} pixels, more than {PIXEL_COUNT_MAX}. Make it smaller"
    )
