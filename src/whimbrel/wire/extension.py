"""The vocabulary of extensions: what is said of an operation of ours beside its shapes.

Data only. `wire.extension_model` holds the instances.
"""

from dataclasses import dataclass
from typing import Final, Literal

from whimbrel.wire.shape import Operation

LaneName = Literal["read", "write", "embed", "other"]
"""Where a request waits for its turn; see `wire.admission`."""

PATH_PREFIX: Final = "/whimbrel/"
"""Before the name of every extension. AWS's operations have paths of one part."""

ACTION_PREFIX: Final = "whimbrel:"
"""Before the name of every extension, where policies name it."""


@dataclass(frozen=True, slots=True)
class Pagination:
    """How clients page through the answers of an operation.

    Attributes:
        result: the member of the output that holds a page's items.
        page_size: the member of the input that bounds them; None where it has none.
        token: the member of both that holds the page token.
        constant: members of the output that are the same on every page.
    """

    result: str
    page_size: str | None = "maxResults"
    token: str = "nextToken"
    constant: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One operation of ours.

    Attributes:
        operation: its name, path and shapes.
        documentation: what it does, one sentence or two.
        lane: where its requests wait.
        covers: the actions of the service whose effects it has, such as `s3vectors:GetVectors`. Who may not do one of
            them could do it through the extension, so a policy has to allow them as well.
        pagination: None where the answer is whole.
    """

    operation: Operation
    documentation: str
    lane: LaneName
    covers: tuple[str, ...]
    pagination: Pagination | None = None

    @property
    def action(self) -> str:
        """Its name in policies."""
        return ACTION_PREFIX + self.operation.name
