"""Temporary credentials: who may have them, for how long, and with what limits. AWS's rules and texts.

1. Nothing is written: the token says all (`identity.sessions`).
2. A role that is not there, and one that does not trust who asks, are refused in the same words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from whimbrel.auth import Principal, PrincipalKind
from whimbrel.auth.deciding import decide_for, tell_refusal
from whimbrel.auth.policy import ContextValue, PolicyKind
from whimbrel.core.errors import DeniedError, InvalidRequestError
from whimbrel.identity.changes import expect_policy, policy_arn
from whimbrel.identity.credentials import KnownKeys, Source
from whimbrel.identity.identities import Identities
from whimbrel.identity.model import RoleEntry
from whimbrel.identity.principals import SESSION_POLICY, parse
from whimbrel.identity.sessions import Claims, SessionKey, issue
from whimbrel.identity.state import fold

SESSION_S_MIN: Final = 900
SESSION_S_DEFAULT: Final = 3_600
CHAINED_S_MAX: Final = 3_600
USER_SESSION_S_DEFAULT: Final = 43_200
USER_SESSION_S_MAX: Final = 129_600
ROOT_SESSION_S_MAX: Final = 3_600
SESSION_POLICY_CHARS_MAX: Final = 2_048
SESSION_POLICY_COUNT_MAX: Final = 10

ASSUME: Final = "sts:AssumeRole"
TAG_SESSION: Final = "sts:TagSession"
NOT_BY_ROOT: Final = "Roles may not be assumed by root accounts."
NOT_BY_SESSION: Final = "Cannot call {} with session credentials"
_ROLE_ARN: Final = re.compile(
    r"arn:aws:iam::(\d{12}):role(/(?:[\x21-\x7e]+/)?)([\w+=,.@-]{1,64})", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRequest:
    """What AssumeRole was asked for.

    Attributes:
        role_arn: of the role, as the caller named it.
        session_name: what the session is called.
        duration_s: how long it shall last; None for an hour.
        policy: a session policy; None without one.
        policy_arns: managed policies that limit the session as well.
        tags: of the session.
        external_id: what third parties tell each other; None when it was not sent.
    """

    role_arn: str
    session_name: str
    duration_s: int | None = None
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Assumed:
    """A session of a role that has begun.

    Attributes:
        key: its credentials.
        arn: of the session.
        unique_id: of the session.
    """

    key: SessionKey
    arn: str
    unique_id: str


def denied(principal: Principal, action: str, resource: str) -> DeniedError:
    """Makes AWS's refusal of an action."""
    return DeniedError("AccessDenied", tell_refusal(principal, action, resource))


class SessionGiver:
    """Gives out temporary credentials."""

    def __init__(self, identities: Identities, known: KnownKeys) -> None:
        self._identities = identities
        self._known = known

    async def assume_role(
        self, request: RoleRequest, principal: Principal, context: Mapping[str, ContextValue]
    ) -> Assumed:
        """Begins a session of a role.

        Args:
            request: which role, and how.
            principal: who asks.
            context: what policies may look at.

        Raises:
            DeniedError: the role does not trust who asks, or is not there.
            InvalidRequestError: a number or a policy is out of bounds.
            IdentityNotFoundError: a managed session policy is not there.
            PackedPolicyError: policies and tags are too long.
        """
        if principal.kind is PrincipalKind.ROOT:
            raise DeniedError("AccessDenied", NOT_BY_ROOT)
        found = self._find_role(request.role_arn)
        if found is None:
            raise denied(principal, ASSUME, request.role_arn)
        source, account_id, role = found
        facts = {
            **context,
            "sts:rolesessionname": request.session_name,
            **({"sts:externalid": request.external_id} if request.external_id is not None else {}),
            **{f"aws:requesttag/{key.lower()}": value for key, value in request.tags.items()},
            **({"aws:tagkeys": tuple(request.tags)} if request.tags else {}),
            **{f"aws:resourcetag/{key.lower()}": value for key, value in role.tags.items()},
        }
        for action in (ASSUME, TAG_SESSION) if request.tags else (ASSUME,):
            _check_trust(action, principal, request.role_arn, account_id, role, facts)
        duration_s = _role_duration(request.duration_s, role, principal)
        policies, names = _limits(request, source, account_id)
        key = await self._issue(
            Claims(
                account_id=account_id,
                unique_id=role.unique_id,
                session_name=request.session_name,
                parent_key_id="",
                issued_at_s=self._now_s(),
                expires_at_s=self._now_s() + duration_s,
                policies=policies,
                policy_names=names,
                tags=dict(request.tags),
            )
        )
        return Assumed(
            key,
            f"arn:aws:sts::{account_id}:assumed-role/{role.name}/{request.session_name}",
            f"{role.unique_id}:{request.session_name}",
        )

    async def get_session_token(self, principal: Principal, duration_s: int | None) -> SessionKey:
        """Gives a user or root temporary credentials of its own, which end with the key that asks.

        Raises:
            DeniedError: temporary credentials ask.
            InvalidRequestError: the duration is out of bounds.
        """
        if principal.expires_at_s is not None:
            raise DeniedError("AccessDenied", NOT_BY_SESSION.format("GetSessionToken"))
        wanted_s = USER_SESSION_S_DEFAULT if duration_s is None else duration_s
        if not SESSION_S_MIN <= wanted_s <= USER_SESSION_S_MAX:
            raise _duration_error(wanted_s, USER_SESSION_S_MAX)
        is_root = principal.kind is PrincipalKind.ROOT
        return await self._issue(
            Claims(
                account_id=principal.account_id,
                unique_id="" if is_root else principal.unique_id,
                session_name="",
                parent_key_id=principal.access_key_id,
                issued_at_s=self._now_s(),
                expires_at_s=self._now_s()
                + (min(wanted_s, ROOT_SESSION_S_MAX) if is_root else wanted_s),
            )
        )

    async def _issue(self, claims: Claims) -> SessionKey:
        key = await self._identities.token_key()
        return issue(claims, key=key, random=self._identities.context.random)

    def _now_s(self) -> float:
        return self._identities.context.clock.now_s()

    def _find_role(self, arn: str) -> tuple[Source, str, RoleEntry] | None:
        match = _ROLE_ARN.fullmatch(arn)
        if match is None:
            return None
        account_id, path, name = match.groups()
        for source in self._known.sources:
            role = source.state.account(account_id).roles.get(fold(name))
            # ARNs are compared as they are, also where names are not.
            if role is not None and (role.path, role.name) == (path, name):
                return source, account_id, role
        return None


def _check_trust(
    action: str,
    principal: Principal,
    role_arn: str,
    account_id: str,
    role: RoleEntry,
    context: Mapping[str, ContextValue],
) -> None:
    decision = decide_for(
        principal,
        action,
        role_arn,
        resource_account=account_id,
        context=context,
        policy=parse(role.trust, PolicyKind.TRUST, f"trust policy of {role.name}"),
    )
    if not decision.is_allowed:
        raise denied(principal, action, role_arn)


def _role_duration(wanted_s: int | None, role: RoleEntry, principal: Principal) -> int:
    """Returns how long a session lasts, seconds.

    Raises:
        InvalidRequestError: that is too short or too long.
    """
    duration_s = SESSION_S_DEFAULT if wanted_s is None else wanted_s
    if duration_s < SESSION_S_MIN:
        raise _duration_error(duration_s, role.session_s_max)
    if principal.kind is PrincipalKind.ROLE and duration_s > CHAINED_S_MAX:
        text = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise InvalidRequestError(text)
    if duration_s > role.session_s_max:
        text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise InvalidRequestError(text)
    return duration_s


def _duration_error(value_s: int, limit_s: int) -> InvalidRequestError:
    bound = (
        f"greater than or equal to {SESSION_S_MIN}"
        if value_s < SESSION_S_MIN
        else f"less than or equal to {limit_s}"
    )
    return InvalidRequestError(
        f"1 validation error detected: Value '{value_s}' at 'durationSeconds' failed to satisfy constraint: "
        f"Member must have value {bound}"
    )


def _limits(
    request: RoleRequest, source: Source, account_id: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns texts of inline session policies and names of managed ones.

    Raises:
        PolicyError: the text is no policy.
        IdentityNotFoundError: one of the managed ones is not there.
        InvalidRequestError: there is too much of either.
    """
    length = len(request.policy or "") + sum(map(len, request.policy_arns))
    if length > SESSION_POLICY_CHARS_MAX or len(request.policy_arns) > SESSION_POLICY_COUNT_MAX:
        raise InvalidRequestError(
            f"Session policies must have at most {SESSION_POLICY_CHARS_MAX} characters together, and at most "
            f"{SESSION_POLICY_COUNT_MAX} ARNs"
        )
    policies = () if request.policy is None else (request.policy,)
    for text in policies:
        parse(text, PolicyKind.SESSION, SESSION_POLICY)
    entries = [expect_policy(source.state, account_id, arn) for arn in request.policy_arns]
    assert [policy_arn(account_id, entry) for entry in entries] == list(request.policy_arns)
    return policies, tuple(entry.name for entry in entries)
