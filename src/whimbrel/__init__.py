"""Whimbrel: an object store with native vector support, speaking the API of Amazon S3 Vectors."""

__all__ = ["__version__"]

__version__ = "0.1.0"
