"""IAM as one of the endpoint's APIs: told from STS, which has the same path, by the service it is signed for."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from whimbrel.auth import Principal
from whimbrel.core.errors import DeniedError
from whimbrel.wire.errors import ErrorAnswer
from whimbrel.wire.exchange import XML_TYPE, Answered, Exchange
from whimbrel.wire.extension import LaneName
from whimbrel.wire.iam.model import API_VERSION, INPUTS, NAMESPACE
from whimbrel.wire.iam.performing import ACCOUNT_PARAMETER, action_of, find_account, perform
from whimbrel.wire.options import WireOptions
from whimbrel.wire.query.errors import answer_query_error, no_identities
from whimbrel.wire.query.form import parse_form, tell_parameters
from whimbrel.wire.query.xml import encode_answer, encode_error
from whimbrel.wire.request import RequestHead
from whimbrel.wire.service import Service
from whimbrel.wire.timing import Timing

SIGNING_NAME: Final = "iam"
_SCOPE: Final = b"/iam/aws4_request"


@dataclass(frozen=True, slots=True)
class IamRoute:
    """One operation, or the API before the form is read that names it."""

    name: str
    action: str
    lane: LaneName = "other"


_UNREAD: Final = IamRoute("Iam", "iam:*")


class IamProtocol:
    """IAM, as far as it is here."""

    signing_name = SIGNING_NAME
    routes = tuple(IamRoute(name, action_of(name)) for name in INPUTS)

    def __init__(self, service: Service, options: WireOptions) -> None:
        self.body_bytes_max = options.iam_form_bytes_max
        self._service = service

    @staticmethod
    def takes(head: RequestHead) -> bool:
        """Whether a request for the path of the query protocol is signed for IAM."""
        return _SCOPE in (head.header(b"authorization") or b"")

    def find(self, head: RequestHead) -> IamRoute:
        """Returns the API as a whole; which operation, the form tells once the request is known to be authentic."""
        del head
        return _UNREAD

    async def answer(
        self,
        route: IamRoute,
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
        if shape is not None:
            given = tell_parameters(form.decode(shape))
            if isinstance(named := form.tree.get(ACCOUNT_PARAMETER), str):
                given["accountId"] = named
            exchange.name_operation(form.action, action_of(form.action), given)
            with suppress(DeniedError):  # which is for the operation to say
                exchange.noted.account_id = find_account(form, principal)
        identity = self._service.identity
        if identity is None:
            raise no_identities()
        result = await perform(
            form,
            identities=identity.identities,
            principal=principal,
            context=self._service.access.describe(principal, exchange),
            files=identity.known.further,
        )
        exchange.note_answer(result)
        timing.end_engine()
        request_id = exchange.record.request_id
        body = encode_answer(form.action, result, namespace=NAMESPACE, request_id=request_id)
        return Answered(200, XML_TYPE, body)

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""
        return answer_query_error(error)

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as XML."""
        body = encode_error(answer, namespace=NAMESPACE, request_id=request_id)
        return Answered(answer.status, XML_TYPE, body)
