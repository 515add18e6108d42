"""What every operation of IAM is handed, and pages of what it lists."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from whimbrel.auth import Principal, PrincipalKind
from whimbrel.core.errors import InvalidRequestError
from whimbrel.identity import changes
from whimbrel.identity.identities import Identities
from whimbrel.identity.model import Holder, HolderKind, IdentityRecord
from whimbrel.identity.sharing import expect_not_in_file
from whimbrel.identity.state import IdentityState, fold
from whimbrel.identity.tags import collect_tags
from whimbrel.wire.query.xml import XmlValue

PAGE_SIZE_DEFAULT: Final = 100
Result = dict[str, XmlValue]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IamCall:
    """One request, authenticated, checked, and allowed.

    Attributes:
        input: its parameters.
        identities: those of the store.
        principal: who asks.
        account_id: in which account.
        files: identities of files beside the store.
    """

    input: dict[str, Any]
    identities: Identities
    principal: Principal
    account_id: str
    files: tuple[IdentityState, ...] = ()

    @property
    def user_name(self) -> str:
        """The user that is meant: who is named, or else who asks; empty for the account's root."""
        return own_user_name(self.input, self.principal, self.account_id)

    @property
    def holder(self) -> Holder:
        """The user or role that is named."""
        return Holder(self.account_id, *holder_named(self.input))

    @property
    def now_s(self) -> float:
        """The time, seconds since 1970."""
        return self.identities.context.clock.now_s()

    async def change(
        self, decide: Callable[[IdentityState], IdentityRecord | None]
    ) -> IdentityState:
        """Changes identities; see `Identities.change`.

        Raises:
            IdentityNotFoundError: the account was never made; a change would leave something in it that nobody owns.
            IdentityExistsError: what is made or changed is one of a file.
        """

        def decide_here(state: IdentityState) -> IdentityRecord | None:
            for kind, name in names_in(self.input):
                expect_not_in_file(
                    self.files, state, account_id=self.account_id, kind=kind, name=name
                )
            return decide(self._in_account(state))

        return await self.identities.change(decide_here)

    async def read(self) -> IdentityState:
        """Returns the state with every change before this call.

        Raises:
            IdentityNotFoundError: the account was never made.
        """
        return self._in_account(await self.identities.read_newest())

    async def read_of_user(self, name: str) -> IdentityState:
        """Returns the state that knows a user: a file's, where a user of it asks of itself; else as `read`."""
        return own_file(self.files, self.principal, self.account_id, name) or await self.read()

    def _in_account(self, state: IdentityState) -> IdentityState:
        if self.account_id != self.identities.account_id:
            changes.expect_account(state, self.account_id)
        return state

    def page(
        self,
        member: str,
        entries: Iterable[T],
        *,
        name: Callable[[T], str],
        shown: Callable[[T], XmlValue],
    ) -> Result:
        """Returns a page of a listing.

        Args:
            member: of the answer, that holds it.
            entries: all there are.
            name: of an entry, by which it is found.
            shown: of an entry, what the answer says.
        """
        size = self.input.get("MaxItems", PAGE_SIZE_DEFAULT)
        after = self.input.get("Marker")
        ordered = sorted(entries, key=lambda entry: fold(name(entry)))
        if after is not None:
            ordered = [entry for entry in ordered if fold(name(entry)) > fold(after)]
        result: Result = {
            member: [shown(entry) for entry in ordered[:size]],
            "IsTruncated": len(ordered) > size,
        }
        if len(ordered) > size:
            result["Marker"] = name(ordered[size - 1])
        return result


def read_tags(given: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tags that parameters hold.

    Raises:
        InvalidRequestError: two have one key, or a key is reserved for AWS.
    """
    return collect_tags((tag["Key"], tag["Value"]) for tag in given.get("Tags", ()))


def names_in(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields kind and name of what parameters make or change; policies of a user's or role's own have no name there."""
    for kind, members in (("user", ("UserName", "NewUserName")), ("role", ("RoleName",))):
        yield from ((kind, given[member]) for member in members if member in given)
    if "PolicyName" in given and "UserName" not in given and "RoleName" not in given:
        yield "policy", given["PolicyName"]


def own_file(
    files: Iterable[IdentityState], principal: Principal, account_id: str, name: str
) -> IdentityState | None:
    """Returns the identities of the file that who asks is of, where the user that is meant is who asks."""
    for file in files:
        holder = file.holder_of_id(principal.unique_id)
        if holder is not None and (holder.account_id, fold(holder.name)) == (
            account_id,
            fold(name),
        ):
            return file
    return None


def holder_named(given: Mapping[str, Any]) -> tuple[HolderKind, str]:
    """Returns kind and name of the user or role that parameters name."""
    if "RoleName" in given:
        return HolderKind.ROLE, given["RoleName"]
    return HolderKind.USER, given["UserName"]


def own_user_name(given: dict[str, Any], principal: Principal, account_id: str) -> str:
    """Returns the user that parameters name, or else who asks; empty for an account's root.

    Raises:
        InvalidRequestError: no user is named, and who asks is none.
    """
    if "UserName" in given:
        return str(given["UserName"])
    if principal.kind is PrincipalKind.USER and principal.account_id == account_id:
        return principal.name
    if principal.kind is PrincipalKind.ROOT:
        return ""
    raise InvalidRequestError("Must specify userName when calling with non-User credentials")
