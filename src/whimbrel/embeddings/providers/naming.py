"""What a model is called in answers: where it is from and its own name, fit for a header."""

import re
from typing import Final

NAME_CHARS_MAX: Final = 200
UNFIT: Final = re.compile(r"[^\x21-\x7e]")
PATH: Final = re.compile(r"^(/|~|\.{1,2}/)")


def shown_name(source: str, *models: str) -> str:
    """Returns the name that answers give of a model, such as `fastembed/BAAI/bge-small-en-v1.5`.

    Of a path only its last part is told, as where files lie on a server is nobody's business.

    Args:
        source: the package or the configured provider.
        models: as the configuration calls them; several stand for one space of vectors.
    """
    names = [
        model.rstrip("/").rpartition("/")[2] if PATH.match(model) else model for model in models
    ]
    joined = "+".join(names)
    name = joined if joined.startswith(f"{source}/") else f"{source}/{joined}"
    return UNFIT.sub("_", name)[:NAME_CHARS_MAX]
