"""Names that a file of users and the store both have: of one ARN, policies could not tell which they mean."""

from collections.abc import Iterable, Iterator

from whimbrel.core.errors import IdentityExistsError
from whimbrel.identity.state import IdentityState, fold


def list_shared(file: IdentityState, store: IdentityState) -> Iterator[str]:
    """Yields account, kind and name of what is in both."""
    for account_id, account in file.accounts.items():
        others = store.account(account_id).tables
        for kind, table in account.tables.items():
            for name in sorted(table.keys() & others[kind].keys()):
                yield f"{account_id}:{kind}/{table[name].name}"


def expect_not_in_file(
    files: Iterable[IdentityState], store: IdentityState, *, account_id: str, kind: str, name: str
) -> None:
    """Refuses to make or change what a file has and the store has not.

    What both have can be changed in the store, so that it can be deleted there.

    Raises:
        IdentityExistsError: a file has it.
    """
    folded = fold(name)
    if folded in store.account(account_id).tables[kind]:
        return
    if any(folded in file.account(account_id).tables[kind] for file in files):
        text = f"The {kind} {name} is one of the file of users, and is changed there alone."
        raise IdentityExistsError(text)
