"""What servers that speak OpenAI's embeddings API answer, read with suspicion."""

import contextlib
import itertools
import re
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from whimbrel.embeddings.model import Embedded, Float32Matrix

COMPLAINT_CHARS_MAX: Final = 200
SECRET_MARK: Final = "***"
_NOT_PLAIN: Final = re.compile(r"[^\x20-\x7e]+")


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


def read_answer(answer: bytes, texts: Sequence[str]) -> Embedded:
    """Reads the vectors of some texts.

    The API counts the tokens of all texts together, while callers of a batch are told each their own: the count is
    shared out by the length of the texts, and every text has at least 0. Whether a text was cut is not told.

    Args:
        answer: the body.
        texts: what was asked for, with prefixes.

    Raises:
        ValueError: it holds anything else than one finite vector for each, all of one dimension.
    """
    try:
        read = msgspec.json.decode(answer, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_plain(str(error))) from error
    if sorted(each.index for each in read.data) != list(range(len(texts))):
        raise ValueError(f"{len(read.data)} vectors for {len(texts)} texts, or not one for each")
    vectors = _stack([each.embedding for each in sorted(read.data, key=lambda each: each.index)])
    token_count = max(0, read.usage.prompt_tokens) if read.usage else 0
    return Embedded(vectors, share_out(token_count, texts), (False,) * len(texts))


def share_out(token_count: int, texts: Sequence[str]) -> tuple[int, ...]:
    """Shares the tokens of some texts out by their length; the parts add up to the whole."""
    lengths = [len(text.encode("utf-8", "replace")) + 1 for text in texts]
    whole = sum(lengths)
    ends, seen = [0], 0
    for length in lengths:
        seen += length
        ends.append(token_count * seen // whole)
    return tuple(end - start for start, end in itertools.pairwise(ends))


def read_complaint(answer: bytes, *, secret: str) -> str:
    """Returns what a server says is wrong, shortened to plain text in which the secret does not stand."""
    text = answer.decode("utf-8", "replace")
    # It may be plain text, or cut off.
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = _find_text(msgspec.json.decode(answer)) or text
    if secret:
        text = text.replace(secret, SECRET_MARK)
    return _plain(text)


def _find_text(complaint: object) -> str:
    """Returns the text of an error as OpenAI, Ollama, vLLM or Text Embeddings Inference shape it; else nothing."""
    if isinstance(complaint, str):
        return complaint
    if not isinstance(complaint, dict):
        return ""
    return next(
        (
            text
            for name in ("error", "message", "detail")
            if (text := _find_text(complaint.get(name)))
        ),
        "",
    )


def _stack(rows: Sequence[Sequence[float]]) -> Float32Matrix:
    dimensions = {len(row) for row in rows}
    if len(dimensions) != 1 or 0 in dimensions:
        raise ValueError(f"vectors of {sorted(dimensions)} dimensions")
    with np.errstate(over="ignore"):
        vectors = np.asarray(rows, np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("a number is not finite")
    return vectors


def _plain(text: str) -> str:
    return _NOT_PLAIN.sub(" ", text).strip()[:COMPLAINT_CHARS_MAX]
