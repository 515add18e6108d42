"""STS: who asks, and temporary credentials.

The query protocol: a form goes in, XML comes out, errors included. Federation, web identities and SAML are not here.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from whimbrel.auth import Principal
from whimbrel.auth.policy import ContextValue
from whimbrel.core.errors import DeniedError, InvalidRequestError
from whimbrel.identity import IdentityService
from whimbrel.identity.assuming import NOT_BY_SESSION, RoleRequest
from whimbrel.identity.sessions import SessionKey
from whimbrel.wire.access import Need
from whimbrel.wire.errors import ErrorAnswer
from whimbrel.wire.exchange import XML_TYPE, Answered, Exchange
from whimbrel.wire.extension import LaneName
from whimbrel.wire.iam.call import read_tags
from whimbrel.wire.iam.model import ARN, KEY_ID, TAG_KEYS, TAGS
from whimbrel.wire.options import WireOptions
from whimbrel.wire.query.errors import answer_query_error, no_identities
from whimbrel.wire.query.form import parse_form, tell_parameters, unknown_action
from whimbrel.wire.query.xml import XmlValue, encode_answer, encode_error, format_time
from whimbrel.wire.request import RequestHead
from whimbrel.wire.service import Service
from whimbrel.wire.shape import IntegerShape, ListShape, Member, StringShape, StructureShape
from whimbrel.wire.timing import Timing
from whimbrel.wire.validation import validate

SIGNING_NAME: Final = "sts"
API_VERSION: Final = "2011-06-15"
NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"
PATH: Final = b"/"
UNSUPPORTED_TEXT: Final = "{} is not supported by this server"
POLICY_ARN_TEXT: Final = "Each of PolicyArns must have an arn"

_POLICY_ARN: Final = StructureShape("PolicyDescriptorType", {"arn": Member(ARN)})
_SERIAL_NUMBER: Final = StringShape("serialNumberType", 9, 256, pattern=r"[A-Za-z0-9_+=/:,.@-]*")
_TOKEN_CODE: Final = StringShape("tokenCodeType", 6, 6, pattern=r"[0-9]*")
INPUTS: Final = {
    "GetCallerIdentity": StructureShape("GetCallerIdentityRequest"),
    "GetAccessKeyInfo": StructureShape(
        "GetAccessKeyInfoRequest", {"AccessKeyId": Member(KEY_ID, is_required=True)}
    ),
    "GetSessionToken": StructureShape(
        "GetSessionTokenRequest",
        {
            "DurationSeconds": Member(IntegerShape("durationSecondsType", 900, 129600)),
            "SerialNumber": Member(_SERIAL_NUMBER),
            "TokenCode": Member(_TOKEN_CODE),
        },
    ),
    "AssumeRole": StructureShape(
        "AssumeRoleRequest",
        {
            "RoleArn": Member(ARN, is_required=True),
            "RoleSessionName": Member(
                StringShape("roleSessionNameType", 2, 64, pattern=r"[A-Za-z0-9_+=,.@-]*"),
                is_required=True,
            ),
            "PolicyArns": Member(ListShape("policyDescriptorListType", _POLICY_ARN)),
            "Policy": Member(StringShape("sessionPolicyDocumentType", 1)),
            "DurationSeconds": Member(IntegerShape("roleDurationSecondsType", 900, 43200)),
            "Tags": Member(TAGS),
            "TransitiveTagKeys": Member(TAG_KEYS),
            "ExternalId": Member(
                StringShape("externalIdType", 2, 1224, pattern=r"[A-Za-z0-9_+=,.@:\/-]*")
            ),
            "SerialNumber": Member(_SERIAL_NUMBER),
            "TokenCode": Member(_TOKEN_CODE),
            "SourceIdentity": Member(
                StringShape("sourceIdentityType", 2, 64, pattern=r"[A-Za-z0-9_+=,.@-]*")
            ),
            "ProvidedContexts": Member(
                ListShape("ProvidedContextsListType", StructureShape("ProvidedContext"), 1, 5)
            ),
        },
    ),
}
"""The parameters of each operation, by its name."""

UNSUPPORTED: Final = (
    "ProvidedContexts",
    "SerialNumber",
    "SourceIdentity",
    "TokenCode",
    "TransitiveTagKeys",
)
"""Parameters that would change what a session is, so that they must not be passed over."""

OWN_SESSION_ACTIONS: Final = frozenset({"AssumeRole", "GetCallerIdentity"})
"""What credentials of GetSessionToken may be used for here, as on AWS."""

CHECKED_HERE: Final = frozenset({"sts:GetAccessKeyInfo"})
"""Actions that an identity policy has to allow. Of a role its trust policy has a say, the rest is anybody's."""

Result = dict[str, XmlValue]


@dataclass(frozen=True, slots=True)
class StsRoute:
    """One operation, or the API before the form is read that names it."""

    name: str
    action: str
    lane: LaneName = "other"


_UNREAD: Final = StsRoute("Sts", "sts:*")


@dataclass(frozen=True, slots=True)
class _Call:
    """One authentic request with its parameters."""

    given: dict[str, Any]
    principal: Principal
    context: Mapping[str, ContextValue]
    identity: IdentityService | None

    def expect_identity(self) -> IdentityService:
        """Returns what gives out credentials.

        Raises:
            DeniedError: the server does not check who asks.
        """
        if self.identity is None:
            raise no_identities()
        return self.identity


class StsProtocol:
    """STS, as far as it is here."""

    signing_name = SIGNING_NAME
    routes = tuple(StsRoute(name, f"{SIGNING_NAME}:{name}") for name in INPUTS)

    def __init__(self, service: Service, options: WireOptions) -> None:
        self.body_bytes_max = options.form_bytes_max
        self._service = service

    @staticmethod
    def takes(head: RequestHead) -> bool:
        """Whether a request is for an API of the query protocol."""
        return head.raw_path == PATH and head.method == "POST"

    def find(self, head: RequestHead) -> StsRoute:
        """Returns the API as a whole; which operation, the form tells once the request is known to be authentic."""
        del head
        return _UNREAD

    async def answer(
        self,
        route: StsRoute,
        exchange: Exchange,
        body: bytes,
        *,
        principal: Principal,
        timing: Timing,
    ) -> Answered:
        """Does what an authentic request asks for."""
        del route
        form = parse_form(body, version=API_VERSION)
        shape = INPUTS.get(form.action)
        if shape is None:
            raise unknown_action(form.action, API_VERSION)
        given = form.decode(shape)
        access, action = self._service.access, f"{SIGNING_NAME}:{form.action}"
        exchange.name_operation(form.action, action, tell_parameters(given))
        validate(shape, given)
        if principal.is_own_session and form.action not in OWN_SESSION_ACTIONS:
            raise DeniedError("AccessDenied", NOT_BY_SESSION.format(form.action))
        for name in UNSUPPORTED:
            if given.get(name):
                raise InvalidRequestError(UNSUPPORTED_TEXT.format(name))
        if action in CHECKED_HERE:
            await access.check(Need(action), principal=principal, exchange=exchange)
        context = access.describe(principal, exchange)
        call = _Call(given, principal, context, self._service.identity)
        result = await _HANDLERS[form.action](call)
        exchange.note_answer(result)
        timing.end_engine()
        request_id = exchange.record.request_id
        encoded = encode_answer(form.action, result, namespace=NAMESPACE, request_id=request_id)
        return Answered(200, XML_TYPE, encoded)

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""
        return answer_query_error(error)

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as XML."""
        body = encode_error(answer, namespace=NAMESPACE, request_id=request_id)
        return Answered(answer.status, XML_TYPE, body)


async def _get_caller_identity(call: _Call) -> Result:
    principal = call.principal
    return {
        "Arn": principal.arn,
        "UserId": principal.user_id,
        "Account": principal.account_id,
    }


async def _get_access_key_info(call: _Call) -> Result:
    account_id = call.expect_identity().known.account_of(call.given["AccessKeyId"])
    if account_id is None:
        raise InvalidRequestError(f"Unknown access key: {call.given['AccessKeyId']}")
    return {"Account": account_id}


async def _get_session_token(call: _Call) -> Result:
    sessions = call.expect_identity().sessions
    key = await sessions.get_session_token(call.principal, call.given.get("DurationSeconds"))
    return {"Credentials": _show(key)}


async def _assume_role(call: _Call) -> Result:
    given, identity = call.given, call.expect_identity()
    arns = [each.get("arn") for each in given.get("PolicyArns", ())]
    if None in arns:
        # Were it passed over, the session would have fewer limits than were asked for, or none.
        raise InvalidRequestError(POLICY_ARN_TEXT)
    request = RoleRequest(
        role_arn=given["RoleArn"],
        session_name=given["RoleSessionName"],
        duration_s=given.get("DurationSeconds"),
        policy=given.get("Policy"),
        policy_arns=tuple(arns),
        tags=read_tags(given),
        external_id=given.get("ExternalId"),
    )
    assumed = await identity.sessions.assume_role(request, call.principal, call.context)
    return {
        "Credentials": _show(assumed.key),
        "AssumedRoleUser": {"AssumedRoleId": assumed.unique_id, "Arn": assumed.arn},
    }


def _show(key: SessionKey) -> Result:
    return {
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "SessionToken": key.token,
        "Expiration": format_time(key.expires_at_s),
    }


_HANDLERS: Final[dict[str, Callable[[_Call], Awaitable[Result]]]] = {
    "GetCallerIdentity": _get_caller_identity,
    "GetAccessKeyInfo": _get_access_key_info,
    "GetSessionToken": _get_session_token,
    "AssumeRole": _assume_role,
}
