"""Identities of several processes over one store in memory, on a clock that stands still."""

import asyncio
import logging

from whimbrel.core.compute import InlineCompute
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.catalog import RootState, create_catalog
from whimbrel.engine.context import Context
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.paths import ROOT
from whimbrel.identity import Identities, KnownKeys, SessionGiver
from whimbrel.identity.model import KeyEntry, PolicyEntry, RoleEntry, UserEntry
from whimbrel.identity.secrets import secret_name
from whimbrel.storage.envelope import NO_KEYS, MasterKeys
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore
from whimbrel.testing.node import ManualClock

ACCOUNT = "123456789012"
OTHER = "210987654321"
MASTER = bytes(range(32))
ALLOW = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3vectors:*","Resource":"*"}]}'
DENY = ALLOW.replace("Allow", "Deny")
log = logging.getLogger("tests.identity")


def trust(arn):
    return (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:TagSession"],'
        f'"Principal":{{"AWS":"{arn}"}}}}]}}'
    )


class World:
    """A store, and whoever works on it."""

    def __init__(self, *, is_remote=False, options=None):
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.is_remote = is_remote
        self.options = options or EngineOptions()
        self.seed = 0
        self.keys_of = lambda store: NO_KEYS

    def handle(self):
        self.seed += 1
        return FaultyStore(
            self.store,
            clock=self.clock,
            random=SeededRandom(self.seed),
            is_remote=self.is_remote,
        )

    def make(self, store=None, *, master=MASTER, account_id=ACCOUNT):
        """Returns identities that are not started, and their handle on the store."""
        store = store or self.handle()
        random = SeededRandom(self.seed + 1000)
        context = Context(
            store=store,
            clock=self.clock,
            random=random,
            compute=InlineCompute(),
            options=self.options,
            keys=self.keys_of(store),
        )
        masters = [master] if isinstance(master, bytes) else master
        secrets = None if masters is None else MasterKeys(masters, random=random)
        return Identities(context, account_id=account_id, secrets=secrets, log=log), store

    async def start(self, *, makes_root=False, **arguments):
        """Returns identities that were read; in a store that an engine has laid out, if that is asked for."""
        identities, _ = self.make(**arguments)
        if makes_root:
            await create_catalog(identities.context, ROOT, RootState())
        await identities.start()
        return identities

    async def names(self):
        listing = await self.store.list("", limit=1000)
        return [meta.key for meta in listing.objects]


def run(body, **arguments):
    """Runs a test on a world of its own; no error may be lost in a task."""
    errors = []

    async def whole():
        world = World(**arguments)
        asyncio.get_running_loop().set_exception_handler(lambda _, said: errors.append(said))
        await world.clock.run(body(world))

    asyncio.run(whole())
    assert errors == []


def user(name, unique_id=None, **members):
    return UserEntry(
        name=name,
        unique_id=unique_id or f"AIDA{name.upper()}",
        path="/",
        created_at_s=1.0,
        **members,
    )


def role(name, *, trust_policy=None, unique_id=None, **members):
    return RoleEntry(
        name=name,
        unique_id=unique_id or f"AROA{name.upper()}",
        path="/",
        created_at_s=1.0,
        trust=trust_policy or trust(f"arn:aws:iam::{ACCOUNT}:user/ada"),
        **members,
    )


def policy(name, document=ALLOW):
    return PolicyEntry(
        name=name,
        unique_id=f"ANPA{name.upper()}",
        path="/",
        created_at_s=1.0,
        updated_at_s=1.0,
        document=document,
    )


def key_of(identities, key_id, secret):
    wrapped = identities.secrets.wrap(secret_name(key_id), secret.encode())
    return KeyEntry(2.0, wrapped)


def keys_of(identities, root=None, further=()):
    known = KnownKeys(identities, root=root, further=further)
    return known, SessionGiver(identities, known)
