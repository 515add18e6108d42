"""The package that reads and writes Parquet and Arrow, which is large, so that not every installation has it."""

from importlib.util import find_spec

from whimbrel.bulk.errors import MissingPackageError


def require_arrow() -> None:
    """Makes sure that pyarrow is there.

    Raises:
        MissingPackageError: it is not.
    """
    if find_spec("pyarrow") is None:
        raise MissingPackageError(
            "Parquet and Arrow take the package pyarrow, which is not installed."
        )
