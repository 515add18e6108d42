"""What every operation of every API has, wherever its table is."""

from typing import Protocol

from whimbrel.wire.extension import LaneName


class Route(Protocol):
    """What a request asks for."""

    @property
    def name(self) -> str:
        """Of the operation, in log and metrics."""

    @property
    def action(self) -> str:
        """What policies call it, such as `s3vectors:QueryVectors`."""

    @property
    def lane(self) -> LaneName:
        """Where its requests wait."""
