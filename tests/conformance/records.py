"""Records for the conformance tests, in the shape of PutVectors."""

from typing import Any


def record(key: str, *values: float, **metadata: Any) -> dict[str, Any]:
    """Returns a record; without metadata it has none at all."""
    vector: dict[str, Any] = {"key": key, "data": {"float32": list(values)}}
    return vector | ({"metadata": metadata} if metadata else {})


def keys_of(answer: dict[str, Any]) -> list[str]:
    """Returns the keys of an answer in its order."""
    return [vector["key"] for vector in answer["vectors"]]


def by_key(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the records of an answer by key."""
    return {vector["key"]: vector for vector in answer["vectors"]}
