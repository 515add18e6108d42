"""Every setting: its name, type, unit, default, bounds and meaning, in one table.

The command line's flags, the `WHIMBREL_*` variables and `docs/reference/settings.md` are all made from the fields
of `Settings`; tests hold the options of the engine and of the wire equal to the `engine_*` and `wire_*` fields.

1. A value comes from the flag, or else from the environment, or else from the default below.
2. A value out of bounds is refused by name before anything starts.
3. No secret is a setting, so settings may be logged and handed to child processes.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from whimbrel.core.errors import Kind, WhimbrelError

PREFIX: Final = "WHIMBREL_"
ENGINE_PREFIX: Final = "engine_"
WIRE_PREFIX: Final = "wire_"
KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB
ENDPOINT_PATTERN: Final = r"(https?://[^\s/?#@]+(/[^\s?#]*)?)?"

_SIZE_UNITS: Final = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_SIZE = re.compile(r"(\d+)\s*([A-Za-z]*)")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})


class SettingError(WhimbrelError):
    """A setting has a value that it cannot have.

    Attributes:
        message: which setting, and what is wrong with it.
        hint: what it may be.
    """

    kind = Kind.INVALID

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """What is known of one setting besides its value.

    Attributes:
        name: field name in `Settings`.
        type: `str`, `int`, `float` or `bool`.
        default: its value when nobody sets it.
        help: one sentence.
        unit: of a number: `bytes`, `s`, `rows`, ...; empty for none.
        low: smallest number allowed, inclusive.
        high: largest number allowed, inclusive.
        choices: the words allowed; empty for any.
        pattern: what a text must match in full; empty for any.
        form: what the pattern says, for people.
        has_flag: whether `whimbrel serve` has a flag for it; else the environment alone sets it.
    """

    name: str
    type: type[str] | type[int] | type[float] | type[bool]
    default: Any
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    form: str = ""
    has_flag: bool = True

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command line's flag for it."""
        return "--" + self.name.replace("_", "-")

    @property
    def bounds(self) -> str:
        """What values are allowed, for people."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:,} to {self.high:,}"
        return ""

    def parse(self, value: Any, *, source: str = "") -> Any:
        """Turns what a person wrote into a checked value.

        Args:
            value: text, or a value of the setting's own type.
            source: flag or variable that it came from, for the refusal; empty names the setting itself.

        Raises:
            SettingError: it is not of the type, or out of bounds.
        """
        try:
            parsed = _PARSERS[self.type](value)
        except ValueError:
            raise self._error(value, source) from None
        if self.choices and parsed not in self.choices:
            raise self._error(value, source)
        if self.low is not None and not self.low <= parsed <= (self.high or self.low):
            raise self._error(value, source)
        if self.pattern and not re.fullmatch(self.pattern, parsed):
            raise self._error(value, source)
        return parsed

    def _error(self, value: Any, source: str) -> SettingError:
        kind = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        allowed = self.bounds or self.form or self.pattern or kind[self.type]
        unit = f" {self.unit}" if self.unit else ""
        name = source or (self.flag if self.has_flag else self.variable)
        return SettingError(
            f"{name} has an impossible value. value=`{value}`",
            hint=f"it may be: {allowed}{unit}",
        )


def _parse_bool(value: Any) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(word)


def _parse_int(value: Any) -> int:
    """Reads a whole number; sizes may be written as `64MiB`."""
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(str(value).strip().replace("_", ""))
    if match is None or match[2].lower() not in _SIZE_UNITS:
        raise ValueError(value)
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


_PARSERS: Final[dict[type, Any]] = {str: str, int: _parse_int, float: float, bool: _parse_bool}


def _setting(
    default: Any,
    text: str,
    *,
    unit: str = "",
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
    form: str = "",
    has_flag: bool = True,
) -> Any:
    metadata = {
        "help": text,
        "unit": unit,
        "low": bounds[0] if bounds else None,
        "high": bounds[1] if bounds else None,
        "choices": choices,
        "pattern": pattern,
        "form": form,
        "has_flag": has_flag,
    }
    return field(default=default, metadata=metadata)


def _inner(default: Any, text: str, *, unit: str, bounds: tuple[float, float]) -> Any:
    return _setting(default, text, unit=unit, bounds=bounds, has_flag=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The value of every setting; what each means stands beside it."""

    # --- where the data is ---
    store: str = _setting(
        "./whimbrel-data",
        "Where the data is: a path, `file:///path`, `memory:`, `s3://bucket/prefix`, `gs://...`, `az://...`.",
        pattern=r".+",
        form="a path or a URL",
    )
    s3_endpoint: str = _setting(
        "",
        "Address of an S3-compatible store, such as `http://127.0.0.1:9000`; empty for AWS.",
        pattern=ENDPOINT_PATTERN,
        form="a URL such as http://127.0.0.1:9000, or nothing",
    )
    s3_region: str = _setting(
        "", "Region of the store's bucket; empty takes AWS_REGION or us-east-1."
    )
    s3_path_style: bool = _setting(
        default=False,
        text="Whether the bucket is part of the path and not of the host name, as most S3-compatible stores want.",
    )
    cache_dir: str = _setting(
        "", "Directory for what was read of a remote store's objects; empty keeps it in memory."
    )
    cache_bytes: int = _setting(
        4 * GIB,
        "Largest size of that cache.",
        unit="bytes",
        bounds=(64 * MIB, 64 * TIB),
    )
    encryption: str = _setting(
        "auto",
        "Whether new vector buckets and indexes are stored encrypted: `auto` wherever there is a master key, which local "
        "stores have made at the first start; `on` likewise, and refuses what is not encrypted; `off`.",
        choices=("auto", "on", "off"),
    )
    local_reserve_bytes: int = _inner(
        64 * MIB,
        "Room that writes leave free on a local store's disk, so that collection can still work when it is full.",
        unit="bytes",
        bounds=(0, TIB),
    )
    # --- what is served ---
    host: str = _setting(
        "127.0.0.1", "Address to listen on.", pattern=r"\S+", form="an address or a host's name"
    )
    port: int = _setting(
        7676, "Port to listen on; 0 takes a free one and prints it.", bounds=(0, 65535)
    )
    region: str = _setting(
        "us-east-1",
        "Region that stands in ARNs; requests signed for any region are accepted.",
        pattern=r"[a-z0-9-]{1,64}",
        form="a region such as eu-west-1",
    )
    account_id: str = _setting(
        "123456789012",
        "Account that stands in ARNs and that STS names.",
        pattern=r"\d{12}",
        form="12 digits",
    )
    no_auth: bool = _setting(
        default=False, text="Accept unsigned requests, on a loopback address only."
    )
    users: str = _setting(
        "",
        "File of users, roles and policies beside those of the store (TOML, readable by its owner alone); read again "
        "when it changes. Empty for none.",
    )
    config_dir: str = _setting(
        "",
        "Directory of the generated credentials and master key; empty takes `$XDG_CONFIG_HOME/whimbrel`.",
    )
    # --- how it is reached ---
    tls_cert: str = _setting(
        "",
        "File with the server's certificate and those between it and its root, PEM; the server then speaks TLS alone.",
    )
    tls_key: str = _setting(
        "", "File with the certificate's private key, PEM, without a passphrase."
    )
    tls_ca: str = _setting(
        "",
        "File with the certificates that clients of this server are to trust, PEM, for `whimbrel env`; empty takes a "
        "certificate that signed itself, and else what the system trusts.",
    )
    # --- how it runs ---
    indexer: str = _setting(
        "auto",
        "Who tends the indexes in the background: a child `process`, a `task` inside the server, or nobody "
        "(`off`, for `whimbrel index` elsewhere); `auto` is a process, and a task with `memory:`.",
        choices=("auto", "process", "task", "off"),
    )
    compute_threads: int = _setting(
        0, "Threads for heavy computing; 0 takes one per processor.", bounds=(0, 256)
    )
    workers: int = _setting(
        1,
        "Processes that serve, all on one port and one store; not with `memory:`.",
        bounds=(1, 64),
    )
    kms: str = _setting(
        "local",
        "Whose keys `aws:kms` means: those of the `local` key store, of `aws`, or of the server at this address that "
        "speaks the API of AWS's KMS.",
        pattern=r"local|aws|https?://[^\s/?#@]+(/[^\s?#]*)?",
        form="local, aws, or a URL",
    )
    embeddings: str = _setting(
        "",
        "File that says which models embed for which ids, see the guide to embeddings; empty has the built-in model "
        "answer.",
    )
    embeddings_item_count_max: int = _inner(
        4096,
        "Texts and images that wait for one model, of all requests together; beyond it requests are answered 429.",
        unit="items",
        bounds=(1, 10**6),
    )
    embeddings_bytes_max: int = _inner(
        256 * MIB, "Size of all those together, likewise.", unit="bytes", bounds=(MIB, TIB)
    )
    rate_limits: str = _setting(
        "off",
        "Limits per second: `off`, or `aws` for those that AWS documents for one index, 2,500 vectors and 1,000 writing "
        "requests. Each limit below replaces its own.",
        choices=("off", "aws"),
    )
    rate_principal_requests_per_s: float = _inner(
        0.0, "Requests of one principal; 0 limits nothing.", unit="1/s", bounds=(0, 10**9)
    )
    rate_index_vectors_per_s: float = _inner(
        0.0,
        "Vectors written to one index; 0 takes what `rate_limits` says. One limit of a preset cannot be switched off, "
        "only set high.",
        unit="1/s",
        bounds=(0, 10**9),
    )
    rate_index_writes_per_s: float = _inner(
        0.0,
        "Requests that write to one index or delete from it; 0 takes what `rate_limits` says, and a preset's is set "
        "high rather than switched off.",
        unit="1/s",
        bounds=(0, 10**9),
    )
    rate_index_reads_per_s: float = _inner(
        0.0,
        "Other requests for vectors of one index; 0 limits nothing.",
        unit="1/s",
        bounds=(0, 10**9),
    )
    rate_burst_s: float = _inner(
        5.0, "So many seconds' worth of each limit may come at once.", unit="s", bounds=(0.01, 3600)
    )
    audit: str = _setting(
        "off",
        "What is recorded in the audit log: nothing (`off`), operations on everything but vectors (`management`), or "
        "`all`.",
        choices=("off", "management", "all"),
    )
    audit_file: str = _setting(
        "-",
        "File of the audit log; `-` is standard output. With several workers each has its own, the worker's number in "
        "its name.",
        pattern=r".+",
        form="a path, or -",
    )
    audit_bytes_max: int = _inner(
        64 * MIB,
        "A file of the audit log is renamed rather than grow longer.",
        unit="bytes",
        bounds=(MIB, TIB),
    )
    audit_file_count_max: int = _inner(
        100, "Renamed files that are kept, the newest.", unit="files", bounds=(1, 10**6)
    )
    audit_delay_s: float = _inner(
        0.1,
        "How long a record may wait for others that nobody waits for: those of vectors, and of refused strangers.",
        unit="s",
        bounds=(0.001, 60),
    )
    log_level: str = _setting(
        "info", "Least severity that is logged.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = _setting(
        "auto",
        "How log lines look: `json`, `text`, or `auto`, which is text on a terminal.",
        choices=("auto", "json", "text"),
    )
    # --- limits of the HTTP side, by the names of its options ---
    wire_trusted_proxies: str = _setting(
        "",
        "Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, with commas "
        "between, such as `10.0.0.0/8,127.0.0.1`; empty believes nobody.",
        pattern=r"([0-9a-fA-F:.]+(/\d{1,3})?(,[0-9a-fA-F:.]+(/\d{1,3})?)*)?",
        form="addresses or networks with commas between",
        has_flag=False,
    )
    wire_metrics_signed: bool = _setting(
        default=False,
        text="Whether `/metrics` answers only to signed requests of the root user, or of whom a policy allows "
        "`whimbrel:GetMetrics`; else to everybody who reaches the server.",
        has_flag=False,
    )
    wire_request_count_max: int = _inner(
        512,
        "Requests that wait or are worked on at a time; more are answered 503.",
        unit="requests",
        bounds=(1, 65536),
    )
    wire_read_count_max: int = _inner(
        0,
        "Queries, gets and lists of vectors worked on at a time; further ones wait. 0 takes 2 per computing thread, "
        "and 32 over a remote store.",
        unit="requests",
        bounds=(0, 65536),
    )
    wire_ordinary_count_max: int = _inner(
        64,
        "While no more requests are in the server, none is refused for having waited: on a busy machine an ordinary "
        "number of clients is slow rather than failing.",
        unit="requests",
        bounds=(0, 65536),
    )
    wire_read_wait_s: float = _inner(
        0.5,
        "How long those may wait in a burst, and a tenth of it once they have been waiting for so long without a "
        "break; then they are answered 503.",
        unit="s",
        bounds=(0.001, 3600),
    )
    wire_write_count_max: int = _inner(
        16,
        "Puts and deletes of vectors worked on at a time; further ones wait.",
        unit="requests",
        bounds=(1, 65536),
    )
    wire_write_wait_s: float = _inner(
        5.0, "How long those may wait, likewise.", unit="s", bounds=(0.001, 3600)
    )
    wire_embed_count_max: int = _inner(
        64,
        "Requests for embeddings worked on at a time; further ones wait.",
        unit="requests",
        bounds=(1, 65536),
    )
    wire_embed_wait_s: float = _inner(
        30.0, "How long those may wait, likewise.", unit="s", bounds=(0.001, 3600)
    )
    wire_body_bytes_in_flight_max: int = _inner(
        512 * MIB,
        "Memory for request bodies of all requests together; beyond it requests are answered 503.",
        unit="bytes",
        bounds=(32 * MIB, TIB),
    )
    wire_answer_bytes_in_flight_max: int = _inner(
        256 * MIB,
        "Memory for answers that their clients have not taken yet, all together; beyond it the connection whose answer "
        "has waited longest is closed.",
        unit="bytes",
        bounds=(32 * MIB, TIB),
    )
    wire_request_deadline_s: float = _inner(
        60.0,
        "Longest time from a request's head to its answer; then 503.",
        unit="s",
        bounds=(0.1, 3600),
    )
    wire_send_deadline_s: float = _inner(
        60.0, "Longest time a client may take to receive its answer.", unit="s", bounds=(0.1, 3600)
    )
    wire_header_deadline_s: float = _inner(
        30.0,
        "Longest time a connection may take to send a request's head.",
        unit="s",
        bounds=(0.1, 3600),
    )
    wire_header_bytes_max: int = _inner(
        64 * KIB, "Largest head of a request.", unit="bytes", bounds=(8 * KIB, MIB)
    )
    wire_header_count_max: int = _inner(
        100, "Headers of a request.", unit="headers", bounds=(20, 10_000)
    )
    wire_drain_bytes_max: int = _inner(
        256 * MIB,
        "Of a refused body, how much is read and dropped so that its sender sees the answer.",
        unit="bytes",
        bounds=(0, TIB),
    )
    wire_drain_deadline_s: float = _inner(
        30.0, "Longest time that may take.", unit="s", bounds=(0, 3600)
    )
    wire_keep_alive_s: int = _inner(
        60, "An idle connection is closed after this.", unit="s", bounds=(1, 3600)
    )
    wire_shutdown_deadline_s: int = _inner(
        60,
        "Longest time accepted requests may take after a stop signal.",
        unit="s",
        bounds=(0, 3600),
    )
    wire_shutdown_body_deadline_s: float = _inner(
        3.0,
        "Longest time the rest of a request's body may take to arrive after a stop signal.",
        unit="s",
        bounds=(0, 3600),
    )
    wire_connection_count_max: int = _inner(
        4096,
        "Connections open at a time, where the limit of open files allows as many; more are answered 503.",
        unit="connections",
        bounds=(1, 65536),
    )
    wire_address_connection_count_max: int = _inner(
        2048,
        "Of them, from one IPv4 address or one /64 network of IPv6; behind a proxy all come from the same.",
        unit="connections",
        bounds=(1, 65536),
    )
    wire_tls_handshake_deadline_s: float = _inner(
        10.0,
        "Longest time a client may take to agree on TLS after it has connected.",
        unit="s",
        bounds=(0.1, 3600),
    )
    wire_backlog: int = _inner(
        1024,
        "Connections the system queues before they are accepted.",
        unit="connections",
        bounds=(1, 65535),
    )
    # --- limits and intervals of the engine, by the names of its options ---
    engine_group_bytes_max: int = _inner(
        16 * MIB, "A group commit closes at this size.", unit="bytes", bounds=(64 * KIB, GIB)
    )
    engine_queue_bytes_max: int = _inner(
        128 * MIB,
        "Writes waiting for one index; beyond it writes are answered 429.",
        unit="bytes",
        bounds=(MIB, TIB),
    )
    engine_tail_bytes_max: int = _inner(
        512 * MIB,
        "Largest un-indexed tail of one index; beyond it writes are answered 429 until it is flushed.",
        unit="bytes",
        bounds=(MIB, TIB),
    )
    engine_memtable_bytes_max: int = _inner(
        1024 * MIB,
        "Memory for all tails together; beyond it writes are answered 429.",
        unit="bytes",
        bounds=(MIB, TIB),
    )
    engine_flush_bytes_min: int = _inner(
        32 * MIB, "A tail this large is flushed at once.", unit="bytes", bounds=(1, TIB)
    )
    engine_flush_row_count_min: int = _inner(
        10_000, "A tail of so many rows is flushed at once.", unit="rows", bounds=(1, 10**9)
    )
    engine_flush_object_count_min: int = _inner(
        64, "A tail of so many log objects is flushed at once.", unit="objects", bounds=(1, 10**6)
    )
    engine_flush_age_s: float = _inner(
        5.0, "A smaller tail is flushed when it has waited this long.", unit="s", bounds=(0, 86400)
    )
    engine_compaction_fan_in: int = _inner(
        6, "Segments of similar size merged at a time.", unit="segments", bounds=(2, 64)
    )
    engine_segment_bytes_max: int = _inner(
        256 * MIB,
        "Compaction makes no segment larger than about this; larger indexes are cut into regions.",
        unit="bytes",
        bounds=(MIB, 384 * MIB),
    )
    engine_recall_target: float = _inner(
        0.98,
        "Mean recall of the nearest 10 and 100 that calibration aims at: less makes queries of large indexes cheaper. "
        "The same for all indexers of a store.",
        unit="",
        bounds=(0.5, 0.999),
    )
    engine_settle_age_s: float = _inner(
        3.0,
        "An index not written to for so long is compacted further than one under load.",
        unit="s",
        bounds=(0, 86400),
    )
    engine_inline_segment_bytes_max: int = _inner(
        4096 * MIB,
        "Segments up to this size in all are taken to stay in memory, so that quick queries need no thread.",
        unit="bytes",
        bounds=(0, TIB),
    )
    engine_mapped_vector_bytes_max: int = _inner(
        256 * MIB,
        "Vectors of mapped segments that queries may leave in a process's memory.",
        unit="bytes",
        bounds=(MIB, TIB),
    )
    engine_index_poll_interval_s: float = _inner(
        0.5, "How often the indexer looks for indexes that changed.", unit="s", bounds=(0.01, 3600)
    )
    engine_remote_poll_interval_s: float = _inner(
        10.0,
        "The same on a remote store, where each look is a paid listing, for changes that other servers made.",
        unit="s",
        bounds=(0.01, 3600),
    )
    engine_deleted_interval_s: float = _inner(
        60.0,
        "How often the indexer looks for objects of deleted indexes and buckets.",
        unit="s",
        bounds=(0.01, 86400),
    )
    engine_sweep_interval_s: float = _inner(
        21600.0,
        "How often the indexer looks at every index, as a backstop, and collects garbage.",
        unit="s",
        bounds=(0.01, 864000),
    )
    engine_refresh_interval_s: float = _inner(
        1.0,
        "How often a server with a tail looks for a newer manifest.",
        unit="s",
        bounds=(0.01, 3600),
    )
    engine_idle_refresh_interval_s: float = _inner(
        60.0,
        "How often a server looks for a newer manifest of an index without a tail that is queried.",
        unit="s",
        bounds=(0.01, 3600),
    )
    engine_manifest_grace_s: float = _inner(
        1200.0,
        "A manifest is kept this long after its successor appeared; at least 300 s more than page tokens live, "
        "lower in tests only.",
        unit="s",
        bounds=(0, 86400),
    )
    engine_collection_wait_s: float = _inner(
        60.0,
        "Time between deleting a manifest and deleting what only it protected; lower in tests only.",
        unit="s",
        bounds=(0, 86400),
    )
    engine_orphan_age_s: float = _inner(
        3600.0,
        "An object that no manifest names is collected when it is older; lower in tests only.",
        unit="s",
        bounds=(0, 864000),
    )
    engine_page_token_age_max_s: float = _inner(
        900.0, "Page tokens expire after this.", unit="s", bounds=(1, 86400)
    )
    engine_access_age_s_max: float = _inner(
        2.0,
        "A changed vector bucket policy, or a changed tag, decides on access on all servers after this at the latest.",
        unit="s",
        bounds=(0.01, 60),
    )
    engine_catalog_snapshot_record_count: int = _inner(
        64, "A catalog is summed up every so many records.", unit="records", bounds=(1, 10**6)
    )
    engine_open_index_count_max: int = _inner(
        20_000,
        "Indexes kept open; the least recently used is closed.",
        unit="indexes",
        bounds=(1, 10**6),
    )
    engine_open_bucket_count_max: int = _inner(
        256, "Catalogs of buckets kept open.", unit="buckets", bounds=(1, 10**6)
    )
    engine_segment_reader_count_max: int = _inner(
        256, "Segment readers kept open over all indexes.", unit="segments", bounds=(8, 10**6)
    )
    engine_segment_memory_bytes_max: int = _inner(
        512 * MIB,
        "Memory for what was read of a remote store's segments without a cache directory, and as much again for deletion bitmaps.",
        unit="bytes",
        bounds=(MIB, TIB),
    )
    engine_warm_codes: bool = _setting(
        default=True,
        has_flag=False,
        text="Whether a server fetches the codes of a remote segment that a query has read a part of, for the next one.",
    )
    engine_result_cache_bytes_max: int = _inner(
        64 * MIB,
        "Memory for whole query results kept for later pages.",
        unit="bytes",
        bounds=(MIB, TIB),
    )

    @classmethod
    def infos(cls) -> Iterator[SettingInfo]:
        """Yields what is known of each setting, in the order of the table."""
        for entry in dataclasses.fields(cls):
            yield SettingInfo(
                name=entry.name,
                type=_TYPES[str(entry.type)],
                default=entry.default,
                **entry.metadata,
            )

    def changed(self) -> dict[str, Any]:
        """Returns the settings that differ from their defaults."""
        return {
            info.name: getattr(self, info.name)
            for info in self.infos()
            if getattr(self, info.name) != info.default
        }

    def environment(self) -> dict[str, str]:
        """Returns the variables that make a child process load these same settings."""
        values = {info.variable: str(getattr(self, info.name)) for info in self.infos()}
        return {name: value for name, value in values.items() if value}

    def section(self, prefix: str) -> dict[str, Any]:
        """Returns the settings whose names start with `prefix`, under the names without it.

        Args:
            prefix: `engine_` or `wire_`.
        """
        return {
            info.name.removeprefix(prefix): getattr(self, info.name)
            for info in self.infos()
            if info.name.startswith(prefix)
        }


_TYPES: Final[dict[str, Any]] = {
    entry: kind for kind in (str, int, float, bool) for entry in (kind.__name__, str(kind))
}


def load_settings(
    environment: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> Settings:
    """Puts the settings together: flags first, then the environment, then defaults.

    Args:
        environment: as `os.environ`; an empty variable counts as unset.
        flags: values by setting name; None means that the flag was not given.

    Raises:
        SettingError: a value is impossible; names the setting.
    """
    values: dict[str, Any] = {}
    for info in Settings.infos():
        given, source = (flags or {}).get(info.name), info.flag
        if given is None:
            given, source = environment.get(info.variable) or None, info.variable
        if given is not None:
            values[info.name] = info.parse(given, source=source)
    return Settings(**values)
