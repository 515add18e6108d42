"""The audit log of one process, as its settings ask for it: from requests to a file or to standard output."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from whimbrel.core.clock import Clock
from whimbrel.core.metrics import Metrics
from whimbrel.core.rand import Random
from whimbrel.core.settings import Settings
from whimbrel.server.assembly import read_proxies
from whimbrel.server.audit_target import STANDARD_OUTPUT, AuditTarget, FileTarget, OutputTarget
from whimbrel.server.audit_writer import AuditWriter
from whimbrel.server.worker_variables import NUMBER_ENV
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.audit import AuditTrail, Scope, make_loss_record


@asynccontextmanager
async def auditing(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    clock: Clock,
    random: Random,
    metrics: Metrics,
) -> AsyncIterator[AuditTrail | None]:
    """Gives what records requests, for a block; None where the settings want no records.

    Args:
        settings: say what is recorded, and where.
        environment: says which worker this is, of several.
        clock: tells the time of records.
        random: makes their ids.
        metrics: get to know whether records can be written.

    Raises:
        SettingError: the file cannot be opened.
    """
    if settings.audit == "off":
        yield None
        return
    arns = ArnFormat(region=settings.region, account_id=settings.account_id)
    writer = AuditWriter(
        _open_target(settings, environment, clock),
        delay_s=settings.audit_delay_s,
        clock=clock,
        tell_loss=lambda count: make_loss_record(
            count, arns=arns, random=random, now_s=clock.now_s()
        ),
    )
    metrics.add_gauge(
        "whimbrel_audit_failing",
        "1 while the audit log cannot be written, else 0.",
        read=lambda: writer.is_failing,
    )
    metrics.add_gauge(
        "whimbrel_audit_lost_records",
        "Records that the audit log lost since the process started.",
        read=lambda: writer.lost_count,
    )
    try:
        yield AuditTrail(
            writer,
            scope=cast("Scope", settings.audit),
            arns=arns,
            proxies=read_proxies(settings),
            clock=clock,
            random=random,
        )
    finally:
        await writer.close()


def _open_target(settings: Settings, environment: Mapping[str, str], clock: Clock) -> AuditTarget:
    if settings.audit_file == STANDARD_OUTPUT:
        return OutputTarget()
    path = Path(settings.audit_file)
    if number := environment.get(NUMBER_ENV):
        path = path.with_stem(f"{path.stem}-{number}")
    return FileTarget(
        path,
        bytes_max=settings.audit_bytes_max,
        file_count_max=settings.audit_file_count_max,
        clock=clock,
    )
