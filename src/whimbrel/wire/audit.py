"""What the audit log says of a request: one record of CloudTrail's format for each, refused ones among them.

1. A record holds names, numbers and flags that the client chose, and of everything else only that it was there: no
   vector, no key, no text, no filter, no value of a tag, no token, no secret. A parameter that nobody has thought of is
   hidden.
2. A record is bounded, whatever the client sent.
3. An operation that changes what is not vectors is answered when its record is durable. While records cannot be
   written, such operations are refused, and everything else is served.

`docs/operations/audit.md` describes the format.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from whimbrel.auth import Principal
from whimbrel.auth.noauth import NO_AUTH_KEY_ID
from whimbrel.auth.request import PrincipalKind
from whimbrel.core.clock import Clock
from whimbrel.core.errors import UnavailableError
from whimbrel.core.rand import Random
from whimbrel.wire.arn import ArnFormat, parse_arn
from whimbrel.wire.exchange import Exchange, Noted, make_request_id
from whimbrel.wire.origin import TrustedProxies

Scope = Literal["management", "all"]

EVENT_VERSION: Final = "1.11"
HIDDEN: Final = "HIDDEN_DUE_TO_SECURITY_REASONS"
TEXT_CHARS_MAX: Final = 1024
POLICY_CHARS_MAX: Final = 20_480
MEMBER_COUNT_MAX: Final = 64
HEAD_VALUE_BYTES_MAX: Final = 1024
RECORD_BYTES_MAX: Final = 64 * 1024
BUCKET_TYPE: Final = "AWS::S3Vectors::VectorBucket"
INDEX_TYPE: Final = "AWS::S3Vectors::Index"
KEY_TYPE: Final = "AWS::KMS::Key"

# Operations whose requests come as often as vectors do.
DATA_EVENTS: Final = frozenset(
    {
        "PutVectors", "GetVectors", "DeleteVectors", "ListVectors", "QueryVectors", "CountVectors",
        "DeleteVectorsByFilter", "FindVectors", "MeasureRecall", "SearchVectors", "UpdateMetadata", "WarmIndex",
        "EmbedTexts", "InvokeModel", "InvokeModelWithResponseStream", "Converse", "ConverseStream",
    }
)  # fmt: skip
# What these operations start with changes nothing that is stored.
READ_PREFIXES: Final = ("Get", "List", "Query", "Count", "Find", "Search", "Measure", "Warm", "Embed", "Invoke", "Converse", "Simulate", "Describe", "Assume", "Generate", "Encrypt", "Decrypt", "ReEncrypt")  # fmt: skip
# They change nothing, as CloudTrail sees it, but what they give out must not go unrecorded.
CREDENTIAL_EVENTS: Final = frozenset({"AssumeRole", "GetSessionToken"})
# What requests of the query protocol are called before their form is read, and what leads nowhere.
UNREAD: Final = frozenset({"Iam", "Sts", "Unknown"})
UNKNOWN_ACTION: Final = "s3vectors:"
POLICIES: Final = frozenset({"policy", "policyDocument", "assumeRolePolicyDocument"})
# Texts that name something, which is what the log is for.
NAMED: Final = frozenset(
    {
        "vectorBucketName", "vectorBucketArn", "indexName", "indexArn", "resourceArn", "prefix", "dataType",
        "distanceMetric", "queryMode", "mode", "defaultIndexMode", "snapshotName", "modelId", "sseType", "kmsKeyArn",
        "sourceIndexArn", "sourceIndexName", "sourceVectorBucketName", "sourceSnapshotName", "userName", "roleName",
        "roleArn", "roleSessionName", "policyName", "policyArn", "groupName", "path", "pathPrefix", "keyId", "action",
        "accessKeyId", "status", "versionId", "accountId", "permissionsBoundary",
    }
)  # fmt: skip
# Structures whose own members are told the same way.
OPENED: Final = frozenset(
    {"encryptionConfiguration", "metadataConfiguration", "textSearchConfiguration", "source"}
)
_KEY_ARN = re.compile(
    r"arn:aws[a-z-]*:kms:[a-z0-9-]{1,64}:(\d{12}):key/[A-Za-z0-9-]{1,128}", re.ASCII
)
_CLAIMED_KEY = re.compile(rb"Credential=([A-Za-z0-9]{1,128})/")


class AuditSink(Protocol):
    """Where records go.

    Attributes:
        is_failing: whether the last attempt to write failed.
    """

    is_failing: bool

    def append(self, record: bytes) -> None:
        """Takes a record that is written soon."""

    async def write(self, record: bytes) -> None:
        """Takes a record and returns when it is durable.

        Raises:
            UnavailableError: it could not be written yet; it is kept and tried again.
        """


class AuditTrail:
    """Makes records of requests and hands them to a sink. For one event loop."""

    def __init__(
        self,
        sink: AuditSink,
        *,
        scope: Scope,
        arns: ArnFormat,
        proxies: TrustedProxies,
        clock: Clock,
        random: Random,
    ) -> None:
        self._proxies = proxies
        self._sink = sink
        self._has_data_events = scope == "all"
        self._arns = arns
        self._clock = clock
        self._random = random

    def check(self, operation: str) -> None:
        """Refuses what could not be recorded although it has to be.

        Args:
            operation: its name; of an API whose operations stand in the body, that of all of them passes here.

        Raises:
            UnavailableError: records cannot be written at present, and the operation changes what is not vectors.
        """
        if self._sink.is_failing and is_change(operation):
            raise UnavailableError("the audit log cannot be written")

    async def record(self, exchange: Exchange) -> None:
        """Records a request whose answer is about to be sent; returns when it may be.

        Raises:
            UnavailableError: the record of a change could not be written.
        """
        noted = exchange.noted
        line = self._note(exchange)
        if line is None:
            return
        # Who is nobody must not have the log wait for the disk again and again.
        is_awaited = noted.principal is not None and not is_data_event(exchange.record.operation)
        if not is_awaited or self._sink.is_failing:
            self._sink.append(line)
            return
        try:
            await self._sink.write(line)
        except UnavailableError:
            if is_change(exchange.record.operation):
                raise

    def record_given_up(self, exchange: Exchange) -> None:
        """Records a request that ends without an answer, unless it is recorded already."""
        line = self._note(exchange)
        if line is not None:
            self._sink.append(line)

    def _note(self, exchange: Exchange) -> bytes | None:
        noted = exchange.noted
        is_data = is_data_event(exchange.record.operation)
        if noted.is_recorded or (is_data and not self._has_data_events):
            return None
        noted.is_recorded = True
        record = make_record(
            exchange,
            arns=self._arns,
            proxies=self._proxies,
            event_id=make_request_id(self._random),
            now_s=self._clock.now_s(),
        )
        line = msgspec.json.encode(record)
        if len(line) > RECORD_BYTES_MAX:
            record["requestParameters"] = {"omitted": True}
            line = msgspec.json.encode(record)
        return line + b"\n"


def is_data_event(operation: str) -> bool:
    """Whether an operation is one of CloudTrail's data events, of which there are many; else of management."""
    return operation in DATA_EVENTS


def is_read_only(operation: str) -> bool:
    """Whether an operation changes nothing that is stored."""
    return operation.startswith(READ_PREFIXES)


def is_change(operation: str) -> bool:
    """Whether an operation changes what is not vectors (resources, tags, policies, keys), or gives out credentials."""
    if operation in CREDENTIAL_EVENTS:
        return True
    return not (is_data_event(operation) or is_read_only(operation) or operation in UNREAD)


def make_record(
    exchange: Exchange,
    *,
    arns: ArnFormat,
    proxies: TrustedProxies,
    event_id: str,
    now_s: float,
) -> dict[str, Any]:
    """Returns what is recorded of a request.

    Args:
        exchange: the request, with what was found out about it.
        arns: writes our ARNs and knows our account.
        proxies: whose word on where requests come from is taken.
        event_id: of this record alone.
        now_s: seconds since 1970.
    """
    noted, told = exchange.noted, exchange.record
    head = exchange.head
    is_data = is_data_event(told.operation)
    origin = proxies.find_origin(head, exchange.peer)
    record: dict[str, Any] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": tell_identity(noted.principal),
        "eventTime": format_time(now_s),
        "eventSource": find_source(noted.action or UNKNOWN_ACTION),
        "eventName": told.operation,
        "awsRegion": arns.region,
        "sourceIPAddress": origin.address,
        "userAgent": _header(exchange, b"user-agent"),
        "requestParameters": tell_parameters(noted.parameters, vector_count=noted.vector_count),
        "responseElements": noted.answer,
        "requestID": told.request_id,
        "eventID": event_id,
        "readOnly": is_read_only(told.operation),
        "eventType": "AwsApiCall",
        "managementEvent": not is_data,
        "recipientAccountId": noted.account_id or arns.account_id,
        "eventCategory": "Data" if is_data else "Management",
    }
    if told.code:
        record["errorCode"] = told.code
        record["errorMessage"] = noted.message[:TEXT_CHARS_MAX]
    if additional := _tell_signature(exchange, is_data=is_data):
        record["additionalEventData"] = additional
    if resources := [*tell_resources(noted.parameters, arns), *_tell_key(noted)]:
        record["resources"] = resources
    if exchange.peer.is_secure:
        record["tlsDetails"] = {
            "tlsVersion": exchange.peer.tls_version,
            "cipherSuite": exchange.peer.tls_cipher,
            "clientProvidedHostHeader": _text(head.header(b"host") or b""),
        }
    return record


def make_loss_record(count: int, *, arns: ArnFormat, random: Random, now_s: float) -> bytes:
    """Returns the record that others are missing, as one line.

    Args:
        count: how many.
        arns: knows our account.
        random: makes its id.
        now_s: seconds since 1970.
    """
    record = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": {"type": "AWSService", "invokedBy": "whimbrel"},
        "eventTime": format_time(now_s),
        "eventSource": "whimbrel",
        "eventName": "AuditRecordsLost",
        "awsRegion": arns.region,
        "requestParameters": None,
        "responseElements": None,
        "additionalEventData": {"count": count},
        "eventID": make_request_id(random),
        "readOnly": True,
        "eventType": "AwsServiceEvent",
        "managementEvent": True,
        "recipientAccountId": arns.account_id,
        "eventCategory": "Management",
    }
    return msgspec.json.encode(record) + b"\n"


def find_source(action: str) -> str:
    """Returns the service of an action: AWS's name of its own, and `whimbrel` for extensions."""
    service = action.partition(":")[0]
    return service if service == "whimbrel" else f"{service}.amazonaws.com"


def format_time(at_s: float) -> str:
    """Returns a time as CloudTrail writes it, to the second."""
    return dt.datetime.fromtimestamp(int(at_s), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tell_identity(principal: Principal | None) -> dict[str, Any]:
    """Returns who asked; None is somebody who could not prove who he is."""
    if principal is None:
        return {"type": "Unknown"}
    kinds = {PrincipalKind.ROOT: "Root", PrincipalKind.USER: "IAMUser"}
    identity: dict[str, Any] = {
        "type": kinds.get(principal.kind, "AssumedRole"),
        "principalId": principal.user_id,
        "arn": principal.arn,
        "accountId": principal.account_id,
        "accessKeyId": principal.access_key_id,
    }
    if principal.kind is PrincipalKind.USER:
        identity["userName"] = principal.name
    context: dict[str, Any] = {}
    if principal.kind is PrincipalKind.ROLE:
        context["sessionIssuer"] = {
            "type": "Role",
            "principalId": principal.unique_id.partition(":")[0],
            "arn": principal.principal_arn,
            "accountId": principal.account_id,
            "userName": principal.name,
        }
    if principal.issued_at_s is not None:
        context["attributes"] = {
            "creationDate": format_time(principal.issued_at_s),
            "mfaAuthenticated": "false",
        }
    if context:
        identity["sessionContext"] = context
    return identity


def tell_parameters(
    members: Mapping[str, Any] | None, *, vector_count: int | None
) -> dict[str, Any] | None:
    """Returns what may be told of a request's members; None where they are not known.

    Args:
        members: as they were decoded.
        vector_count: of the records of PutVectors, which are no member.
    """
    if members is None:
        return None
    told = {name: _tell(name, value) for name, value in list(members.items())[:MEMBER_COUNT_MAX]}
    if vector_count is not None:
        told["vectors"] = {"count": vector_count}
    return told


def _tell(name: str, value: Any) -> Any:
    match value:
        case bool() | int() | float() | None:
            return value
        case str() if name in POLICIES:
            return value[:POLICY_CHARS_MAX]
        case str() if name in NAMED:
            return value[:TEXT_CHARS_MAX]
        case Mapping() if name in OPENED:
            return tell_parameters(value, vector_count=None)
        case list() | tuple():
            return {"count": len(value)}
        case Mapping() if name == "tags":
            return {"count": len(value)}
        case _:
            return HIDDEN


def tell_resources(members: Mapping[str, Any] | None, arns: ArnFormat) -> list[dict[str, str]]:
    """Returns the vector bucket that a request names, and the index in it; none where it names neither."""
    if members is None:
        return []
    named = (members.get(name) for name in ("indexArn", "resourceArn", "vectorBucketArn"))
    arn = next((text for text in named if isinstance(text, str)), "")
    bucket, index = members.get("vectorBucketName"), members.get("indexName")
    if not arn and isinstance(bucket, str):
        is_index = isinstance(index, str)
        arn = arns.format_index(bucket, str(index)) if is_index else arns.format_bucket(bucket)
    parsed = parse_arn(arn[:TEXT_CHARS_MAX])
    if parsed is None:
        return []
    owner = {"accountId": parsed.account_id}
    if parsed.index_name is None:
        return [{**owner, "type": BUCKET_TYPE, "ARN": arn}]
    bucket_arn = arn.partition("/index/")[0]
    return [
        {**owner, "type": BUCKET_TYPE, "ARN": bucket_arn},
        {**owner, "type": INDEX_TYPE, "ARN": arn},
    ]


def _tell_key(noted: Noted) -> list[dict[str, str]]:
    """Returns the key of a KMS that a request is about, or that it made; none where it names none by its ARN."""
    made = (noted.answer or {}).get("keyMetadata", {})
    match = _KEY_ARN.fullmatch(made.get("arn", noted.key_arn))
    if match is None:
        return []
    return [{"accountId": match[1], "type": KEY_TYPE, "ARN": match[0]}]


def _tell_signature(exchange: Exchange, *, is_data: bool) -> dict[str, str]:
    """Returns what is told of how a request was signed: of data events that, of strangers the key they claim."""
    principal = exchange.noted.principal
    if principal is None:
        claimed = _claimed_key(exchange)
        return {"claimedAccessKeyId": claimed} if claimed else {}
    if not is_data or principal.access_key_id == NO_AUTH_KEY_ID:
        return {}
    signature = {"SignatureVersion": "SigV4"}
    if exchange.peer.is_secure:
        signature["cipherSuite"] = exchange.peer.tls_cipher
    return signature


def _header(exchange: Exchange, name: bytes) -> str:
    return _text(exchange.head.header(name) or b"")


def _text(value: bytes) -> str:
    return value[:HEAD_VALUE_BYTES_MAX].decode("latin-1")


def _claimed_key(exchange: Exchange) -> str:
    """Returns the access key that a request says it is signed with; empty where it says none."""
    head = exchange.head
    for text in (head.header(b"authorization"), head.raw_query.replace(b"%2F", b"/")):
        match = _CLAIMED_KEY.search((text or b"")[:HEAD_VALUE_BYTES_MAX])
        if match is None:
            continue
        return match[1].decode()
    return ""
