"""Whether a principal may do what a request asks for, decided before its handler runs.

1. Validation comes first, existence last: whoever may not do something is told the same of what exists and of what
   does not.
2. All that a request needs is decided before any of it is done.
3. What decides of a vector bucket that somebody else's server changed may be old by `engine_access_age_s_max`.
4. A stored policy that cannot be read lets nobody in but the root user of the account, who can replace it.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from whimbrel.auth import Principal
from whimbrel.auth.deciding import decide_for, tell_refusal
from whimbrel.auth.policy import Decision, Layer, Policy, PolicyKind, Reason, parse_policy
from whimbrel.auth.policy.limits import BUCKET_BYTES_MAX
from whimbrel.core.clock import Clock
from whimbrel.core.errors import DeniedError, InvalidRequestError, NotFoundError
from whimbrel.engine.access import NO_FACTS, AccessFacts
from whimbrel.wire.access.context import (
    Context,
    describe_request,
    describe_resource,
    describe_wish,
)
from whimbrel.wire.access.needs import Need, NeedReader, Place
from whimbrel.wire.access.rule import Members
from whimbrel.wire.access.table import EXPLAIN
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.exchange import Exchange
from whimbrel.wire.origin import TrustedProxies

DENIED: Final = "AccessDeniedException"
UNREADABLE_TEXT: Final = "the policy of a vector bucket cannot be read, so that it allows nothing"
POLICIES_MAX: Final = 256
NO_WISH: Final[Members] = MappingProxyType({})
# How a request may name a resource of another account.
ARN_MEMBERS: Final = ("indexArn", "vectorBucketArn", "resourceArn")


class FactSource(Protocol):
    """Who knows the policies and tags of vector buckets; the engine."""

    async def read_access(self, bucket_name: str, index_name: str | None) -> AccessFacts:
        """Returns what is known of a vector bucket, and of an index in it."""


class AccessControl(Protocol):
    """Decides about requests."""

    async def check_call(
        self, action: str, members: Members, *, principal: Principal, exchange: Exchange
    ) -> None:
        """Sees that a principal may do all that a request needs.

        Args:
            action: of its operation.
            members: its input.
            principal: who asks.
            exchange: the request.

        Raises:
            DeniedError: it may not.
            InvalidRequestError: the request does not name a resource as it has to.
            NotFoundError: the root user of the account asks for what another account would have.
        """

    async def check(
        self, *needs: Need, principal: Principal, exchange: Exchange, wish: Members = NO_WISH
    ) -> None:
        """Sees that a principal may do all of these.

        Args:
            needs: what a request needs.
            principal: who asks.
            exchange: the request.
            wish: what it asks for that conditions know; see `describe_wish`.

        Raises:
            DeniedError: it may not.
        """

    async def check_model(
        self, action: str, model_id: str, *, principal: Principal, exchange: Exchange
    ) -> None:
        """Sees that a principal may do something with a model of Bedrock, however it names that.

        Raises:
            DeniedError: it may not.
        """

    async def may_explain(
        self, members: Members, *, principal: Principal, exchange: Exchange
    ) -> bool:
        """Whether a principal may be told what a query of an index takes."""

    def describe(self, principal: Principal, exchange: Exchange) -> Context:
        """Returns what conditions of policies know of any request."""


class OpenAccess:
    """For a server without authentication, and an engine in its owner's program: everybody is its owner."""

    async def check_call(
        self, action: str, members: Members, *, principal: Principal, exchange: Exchange
    ) -> None:
        """Lets everything pass."""

    async def check(
        self, *needs: Need, principal: Principal, exchange: Exchange, wish: Members = NO_WISH
    ) -> None:
        """Lets everything pass."""

    async def check_model(
        self, action: str, model_id: str, *, principal: Principal, exchange: Exchange
    ) -> None:
        """Lets everything pass."""

    async def may_explain(
        self, members: Members, *, principal: Principal, exchange: Exchange
    ) -> bool:
        """Lets everything be explained."""
        del members, principal, exchange
        return True

    def describe(self, principal: Principal, exchange: Exchange) -> Context:
        """Returns nothing, as nothing is asked."""
        del principal, exchange
        return {}


class PolicyAccess:
    """Decides by the policies of principals and of vector buckets."""

    def __init__(
        self,
        facts: FactSource,
        needs: NeedReader,
        *,
        arns: ArnFormat,
        proxies: TrustedProxies,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._facts = facts
        self._needs = needs
        self._arns = arns
        self._proxies = proxies
        self._clock = clock
        self._log = log
        self._parse = lru_cache(maxsize=POLICIES_MAX)(self._parse_policy)

    async def check_call(
        self, action: str, members: Members, *, principal: Principal, exchange: Exchange
    ) -> None:
        """Sees that a principal may do all that a request needs; see `AccessControl`."""
        try:
            needs = self._needs.read(action, members)
        except NotFoundError:
            if principal.is_administrator:
                raise
            named = next(members[name] for name in ARN_MEMBERS if name in members)
            raise _denied(principal, Need(action, named), _FOREIGN) from None
        await self._check(needs, principal, exchange, members)

    async def check(
        self, *needs: Need, principal: Principal, exchange: Exchange, wish: Members = NO_WISH
    ) -> None:
        """Sees that a principal may do all of these; see `AccessControl`."""
        await self._check(needs, principal, exchange, wish)

    async def check_model(
        self, action: str, model_id: str, *, principal: Principal, exchange: Exchange
    ) -> None:
        """Sees that a principal may do something with a model; see `AccessControl`."""
        need = self._needs.of_model(action, model_id)
        await self._check((need,), principal, exchange, {})

    async def may_explain(
        self, members: Members, *, principal: Principal, exchange: Exchange
    ) -> bool:
        """Whether a principal may be told what a query of an index takes; see `AccessControl`."""
        if principal.is_administrator:
            return True
        try:
            need = self._needs.of_index(EXPLAIN, members)
            await self._check((need,), principal, exchange, {})
        except (DeniedError, InvalidRequestError, NotFoundError):
            return False
        return True

    async def _check(
        self, needs: Sequence[Need], principal: Principal, exchange: Exchange, members: Members
    ) -> None:
        context: Context | None = None
        known: dict[Place | None, AccessFacts] = {None: NO_FACTS}
        for need in needs:
            place = need.place
            facts = known.get(place)
            if facts is None:
                assert place is not None
                facts = await self._facts.read_access(place.bucket_name, place.index_name)
                known[place] = facts
            if principal.is_administrator and facts.policy is None:
                continue  # nothing could deny it
            if context is None:
                context = self.describe(principal, exchange)
            decision = self._decide(need, facts, principal, context, members)
            if not decision.is_allowed:
                raise _denied(principal, need, decision)

    def describe(self, principal: Principal, exchange: Exchange) -> Context:
        """Returns what conditions of policies know of any request; see `AccessControl`."""
        origin = self._proxies.find_origin(exchange.head, exchange.peer)
        return describe_request(
            principal, origin, now_s=self._clock.now_s(), region=self._arns.region
        )

    def _decide(
        self,
        need: Need,
        facts: AccessFacts,
        principal: Principal,
        context: Context,
        members: Members,
    ) -> Decision:
        policy = None if facts.policy is None else self._parse(facts.policy)
        if facts.policy is not None and policy is None and not principal.is_administrator:
            return _UNREADABLE
        if need.place is not None:
            is_index = need.place.index_name is not None
            context = context | describe_resource(facts, is_index=is_index)
        return decide_for(
            principal,
            need.action,
            need.resource,
            resource_account=self._arns.account_id,
            context=context | describe_wish(members),
            policy=policy,
        )

    def _parse_policy(self, text: str) -> Policy | None:
        try:
            return parse_policy(text, PolicyKind.RESOURCE, bytes_max=BUCKET_BYTES_MAX)
        except InvalidRequestError:
            self._log.warning(UNREADABLE_TEXT)
            return None


_FOREIGN: Final = Decision(is_allowed=False, reason=Reason.CROSS_ACCOUNT, layer=Layer.RESOURCE)
_UNREADABLE: Final = Decision(is_allowed=False, reason=Reason.EXPLICIT_DENY, layer=Layer.RESOURCE)


def _denied(principal: Principal, need: Need, decision: Decision) -> DeniedError:
    text = tell_refusal(principal, need.action, need.resource)
    return DeniedError(DENIED, f"{text} {decision.refusal(need.action)}")
