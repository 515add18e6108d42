"""The packages of others that analyzers stand on."""

import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from whimbrel.core.errors import LanguageUnavailableError


def release(*packages: str) -> str:
    """Returns names and versions of installed packages, for the id of an analyzer whose terms follow from them.

    Of a version the first two numbers, as the third is for what changes no terms.
    """
    return "+".join(
        f"{name.lower()}.{'.'.join(metadata.version(name).split('.')[:2])}" for name in packages
    )


def load(language: str, packages: Mapping[str, str]) -> list[Any]:
    """Returns modules that a language needs and that not every installation has.

    Args:
        language: the language, for the error.
        packages: the module of each package.

    Raises:
        LanguageUnavailableError: one of them is not installed.
    """
    require(language, packages)
    try:
        return [importlib.import_module(module) for module in packages.values()]
    except ImportError as error:
        raise _unavailable(language, packages) from error


def require(language: str, packages: Mapping[str, str]) -> None:
    """Makes sure that packages are installed; imports none of them.

    Raises:
        LanguageUnavailableError: one of them is not.
    """
    try:
        for package in packages:
            metadata.version(package)  # another package may have a module of the same name
    except ImportError as error:
        raise _unavailable(language, packages) from error


def _unavailable(language: str, packages: Mapping[str, str]) -> LanguageUnavailableError:
    return LanguageUnavailableError(
        f'Text search in the language "{language}" needs packages that this installation does not have: '
        f'{", ".join(packages)}. Install "whimbrel[cjk]".'
    )
