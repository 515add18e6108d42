"""Flags made from the table of settings, so that a flag, its variable and its documentation cannot differ."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from whimbrel.core.settings import SettingInfo, Settings

Command = TypeVar("Command", bound=Callable[..., Any])

# What a command needs to open a store and to find credentials.
STORE_SETTINGS = (
    "store", "s3_endpoint", "s3_region", "s3_path_style", "cache_dir", "cache_bytes",
    "encryption", "config_dir",
)  # fmt: skip
_WORDS: dict[type, str] = {str: "text", int: "number", float: "number"}
ALL_FLAGS = tuple(info.name for info in Settings.infos() if info.has_flag)


def setting_flags(*names: str) -> Callable[[Command], Command]:
    """Gives a command the flags of some settings; an absent flag comes in as None.

    Values are checked by `load_settings`, which knows the bounds and words the refusal.
    """
    infos = {info.name: info for info in Settings.infos()}

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = _flag(infos[name])(command)
        return command

    return decorate


def json_flag(command: Command) -> Command:
    """Gives a command `--json`."""
    decorate = click.option(
        "--json", "as_json", is_flag=True, help="Print the result as one JSON document."
    )
    return decorate(command)


def bedrock_flag(command: Command) -> Command:
    """Gives a command `--no-bedrock`."""
    decorate = click.option(
        "--no-bedrock",
        is_flag=True,
        help="Leave Amazon Bedrock to AWS, for its chat models say; its embeddings then are AWS's as well.",
    )
    return decorate(command)


def _flag(info: SettingInfo) -> Callable[[Command], Command]:
    text = info.help.replace("`", "") + f"  [{describe_value(info)}]"
    if info.type is bool:
        return click.option(info.flag, info.name, is_flag=True, default=None, help=text)
    metavar = "|".join(info.choices) or (info.unit or _WORDS[info.type]).upper()
    return click.option(info.flag, info.name, default=None, metavar=metavar, help=text)


def describe_value(info: SettingInfo) -> str:
    """Returns a setting's variable, default and bounds on one line."""
    parts = [info.variable]
    if info.type is not bool and info.default != "":
        parts.append(f"default {info.default}")
    if info.low is not None:
        parts.append(info.bounds)
    return "; ".join(parts)
