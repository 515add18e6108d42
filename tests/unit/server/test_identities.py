"""Opening identities: what a file and the store both have is told."""

import pytest

from tests.unit.identity.stores import ACCOUNT, run, user
from whimbrel.core.settings import load_settings
from whimbrel.identity import changes
from whimbrel.server.identities import open_identities

USERS = f"""
[[users]]
name = "Ada"
access_key_id = "ADASKEY000000000001"
secret = "{"s" * 40}"
"""


@pytest.mark.parametrize("name", ["ada", "eve"])
def test_a_user_of_file_and_store_is_told_at_the_start(tmp_path, caplog, name):
    path = tmp_path / "users.toml"
    path.write_text(USERS)
    path.chmod(0o600)
    settings = load_settings({}, {"store": "memory:", "users": str(path), "account_id": ACCOUNT})

    async def body(world):
        one = await world.start()
        await one.change(lambda state: changes.create_user(state, ACCOUNT, user(name)))
        async with open_identities(one.context, settings, {}, root=None):
            pass

    run(body)
    assert (f"first=`{ACCOUNT}:user/Ada`" in caplog.text) == (name == "ada")
