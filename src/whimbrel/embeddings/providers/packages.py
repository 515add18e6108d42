"""Packages that a server does without until a model asks for them."""

import importlib
from typing import Any

from whimbrel.core.errors import ModelNotReadyError


def import_package(module: str, *, command: str) -> Any:
    """Imports and returns a module.

    Args:
        module: its name.
        command: what installs it.

    Raises:
        ModelNotReadyError: it is not installed, or cannot be imported here.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelNotReadyError(
            f"The package {module}, which this model needs, is not installed. Install it with: {command}"
        ) from error
