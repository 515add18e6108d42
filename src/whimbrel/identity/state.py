"""All identities of a store at one position of their log: a pure state machine.

Invariants:
1. The state is what the records up to a position make, in order, and nothing else.
2. Each access key id and each unique id belongs to one holder.
3. Names that differ in case alone are one name, as on AWS.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec

from whimbrel.identity.model import (
    AccountEntry,
    Holder,
    HolderKind,
    IdentityRecord,
    KeyEntry,
    PolicyEntry,
    PutAccount,
    PutPolicy,
    PutRole,
    PutTokenKey,
    PutUser,
    RemoveAccount,
    RemovePolicy,
    RemoveUser,
    RenameUser,
    RoleEntry,
    UserEntry,
)

_encoder = msgspec.msgpack.Encoder()

Entry = AccountEntry | UserEntry | RoleEntry | PolicyEntry


def fold(name: str) -> str:
    """Returns what a name is found by."""
    return name.lower()


class Account(msgspec.Struct):
    """What is in an account.

    Attributes:
        entry: of the account; None for the server's own.
        users, roles, policies: by folded name.
    """

    entry: AccountEntry | None = None
    users: dict[str, UserEntry] = {}
    roles: dict[str, RoleEntry] = {}
    policies: dict[str, PolicyEntry] = {}

    @property
    def tables(self) -> dict[str, Mapping[str, UserEntry | RoleEntry | PolicyEntry]]:
        """What is in it, by the word that ARNs have for its kind."""
        return {"user": self.users, "role": self.roles, "policy": self.policies}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return not any(self.tables.values())

    def list_entries(self) -> list[Entry]:
        """Returns all entries."""
        own: list[Entry] = [self.entry] if self.entry is not None else []
        return [*own, *self.users.values(), *self.roles.values(), *self.policies.values()]


class IdentityState(msgspec.Struct, dict=True):
    """All identities.

    Attributes:
        accounts: by number; the server's own is there from the first record on that needs it.
        token_key: key of session tokens, wrapped; None before the first one.
    """

    accounts: dict[str, Account] = {}
    token_key: bytes | None = None

    def __post_init__(self) -> None:
        """Prepares what is looked up by id, and the size."""
        self._key_holders: dict[str, tuple[str, str]] = {}
        self._holders: dict[str, Holder] = {}
        self._bytes: Counter[str] = Counter()
        self._count = 0
        for account_id, account in self.accounts.items():
            for entry in account.list_entries():
                self._note(account_id, entry)

    # --- records -----------------------------------------------------------------------------------

    def apply(self, record: IdentityRecord, sequence: int) -> None:
        """Applies one record."""
        del sequence
        if isinstance(record, PutTokenKey):
            self.token_key = record.secret
        elif isinstance(record, RemoveAccount):
            account = self.accounts.pop(record.account_id)
            self._forget(record.account_id, account.entry)
        elif isinstance(record, PutAccount):
            account = self.accounts.setdefault(record.account_id, Account())
            self._forget(record.account_id, account.entry)
            account.entry = record.entry
            self._note(record.account_id, record.entry)
        elif isinstance(record, PutUser | RenameUser | PutRole | PutPolicy):
            table = self._table(record)
            if isinstance(record, RenameUser):
                self._forget(record.account_id, table.pop(fold(record.name)))
            name = fold(record.entry.name)
            self._forget(record.account_id, table.get(name))
            table[name] = record.entry
            self._note(record.account_id, record.entry)
        else:
            self._forget(record.account_id, self._table(record).pop(fold(record.name)))

    def _table(self, record: IdentityRecord) -> dict[str, UserEntry | RoleEntry | PolicyEntry]:
        assert not isinstance(record, PutTokenKey)
        account = self.accounts.setdefault(record.account_id, Account())
        table: dict[str, UserEntry] | dict[str, RoleEntry] | dict[str, PolicyEntry]
        if isinstance(record, PutUser | RenameUser | RemoveUser):
            table = account.users
        elif isinstance(record, PutPolicy | RemovePolicy):
            table = account.policies
        else:
            table = account.roles
        return table  # type: ignore[return-value]

    def _note(self, account_id: str, entry: Entry) -> None:
        self._bytes[account_id] += measure(entry)
        self._count += 1
        if isinstance(entry, UserEntry | RoleEntry):
            kind = HolderKind.USER if isinstance(entry, UserEntry) else HolderKind.ROLE
            self._holders[entry.unique_id] = Holder(account_id, kind, entry.name)
        if isinstance(entry, UserEntry | AccountEntry):
            name = entry.name if isinstance(entry, UserEntry) else ""
            for key_id in entry.keys:
                self._key_holders[key_id] = (account_id, name)

    def _forget(self, account_id: str, entry: Entry | None) -> None:
        if entry is None:
            return
        self._bytes[account_id] -= measure(entry)
        self._count -= 1
        if isinstance(entry, UserEntry | RoleEntry):
            del self._holders[entry.unique_id]
        if isinstance(entry, UserEntry | AccountEntry):
            for key_id in entry.keys:
                del self._key_holders[key_id]

    # --- what is looked up -------------------------------------------------------------------------

    @property
    def entry_count(self) -> int:
        """How many entries there are."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """How large all entries are together, encoded."""
        return self._bytes.total()

    def account_bytes(self, account_id: str) -> int:
        """Returns how large the entries of an account are together, encoded."""
        return self._bytes[account_id]

    def account(self, account_id: str) -> Account:
        """Returns an account's content; empty when there is none."""
        return self.accounts.get(account_id) or Account()

    def find_holder(self, holder: Holder) -> UserEntry | RoleEntry | None:
        """Returns the entry of a user or role."""
        account = self.account(holder.account_id)
        table: dict[str, UserEntry] | dict[str, RoleEntry]
        table = account.users if holder.kind is HolderKind.USER else account.roles
        return table.get(fold(holder.name))

    def holder_of_id(self, unique_id: str) -> Holder | None:
        """Returns who has a unique id."""
        return self._holders.get(unique_id)

    def holder_of_key(self, access_key_id: str) -> tuple[str, str] | None:
        """Returns account and user of an access key; the user's name is empty for an account's root."""
        return self._key_holders.get(access_key_id)

    def find_key(self, access_key_id: str) -> KeyEntry | None:
        """Returns an access key, active or not."""
        found = self._key_holders.get(access_key_id)
        if found is None:
            return None
        account = self.accounts[found[0]]
        if found[1]:
            return account.users[fold(found[1])].keys[access_key_id]
        assert account.entry is not None
        return account.entry.keys[access_key_id]


def measure(entry: Entry) -> int:
    """Returns how many bytes an entry takes."""
    return len(_encoder.encode(entry))
