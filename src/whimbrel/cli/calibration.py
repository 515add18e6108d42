"""How commands show the calibration of an index."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel.engine.manifest import Calibration


def calibration_rows(calibration: "Calibration | None") -> Iterator[tuple[str, str]]:
    """Yields names and values for a table."""
    if calibration is None:
        yield "calibrated", "no; each segment's own measures count"
        return
    yield (
        "calibrated",
        f"{_time(calibration.measured_at_s)}, on {calibration.live_count:,} vectors",
    )
    yield "  scanned", ", ".join(f"{share:.2%} for {k:,}" for k, share in calibration.shares)
    recalls = ", ".join(f"{recall:.4f} at {k:,}" for k, recall in calibration.recalls)
    yield (
        "  recall",
        f"{recalls}; {calibration.query_count} queries, {_time(calibration.checked_at_s)}",
    )
    if calibration.needs_recluster:
        yield "  posting lists", "had better be made anew: queries scan much more than they did"


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
