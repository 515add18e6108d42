"""What is done to all local keys at once: their objects counted, wrapped anew and checked.

One object that cannot be read is reported, and stops nothing of the rest.
"""

from collections.abc import AsyncIterator
from contextlib import suppress

from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError, ObjectNotFoundError
from whimbrel.kms.local import names
from whimbrel.kms.local.key import LocalKey, Phase
from whimbrel.kms.local.objects import KeyObjects
from whimbrel.storage.envelope import Rewrapped

Unreadable = CorruptObjectError | KeyUnavailableError


async def list_wrappers(objects: KeyObjects) -> AsyncIterator[tuple[str, str | CorruptObjectError]]:
    """Yields every object of every key, and the id of the master key that it is under; needs no key.

    What a failed creation left is among them: it may be about to become a key.
    """
    async for key_id in objects.every_id():
        async for meta in objects.every_object(names.key_prefix(key_id)):
            with suppress(ObjectNotFoundError):  # destroyed meanwhile
                try:
                    yield meta.key, await objects.wrapper_of(meta.key)
                except CorruptObjectError as error:
                    yield meta.key, error


async def rewrap_keys(objects: KeyObjects) -> AsyncIterator[Rewrapped]:
    """Puts every object of every key under the first of the master keys.

    What they hold stays what it is, so no process need be told, and it may be broken off and begun again.
    """
    async for key_id in objects.every_id():
        is_changed = False
        async for meta in objects.every_object(names.key_prefix(key_id)):
            with suppress(ObjectNotFoundError):  # destroyed meanwhile
                try:
                    done = Rewrapped(meta.key, is_changed=await objects.rewrap(meta.key))
                except (CorruptObjectError, KeyUnavailableError) as error:
                    done = Rewrapped(meta.key, error=error)
                is_changed = is_changed or done.is_changed
                yield done
        if is_changed:
            await _shred_if_destroyed(objects, key_id)


async def _shred_if_destroyed(objects: KeyObjects, key_id: str) -> None:
    """Deletes material that a key which was destroyed meanwhile has got back."""
    with suppress(CorruptObjectError, KeyUnavailableError):  # of its state, and reported with that
        key = await objects.find_newest(key_id)
        if key is not None and key.phase is Phase.DESTROYED:
            await objects.shred(key_id)


async def check_keys(objects: KeyObjects) -> AsyncIterator[tuple[str, Unreadable | None]]:
    """Yields every object of every key, and what is wrong with it.

    What a failed creation left is not looked at, nor is material of destroyed keys: both wait for the sweep.
    """
    async for key_id in objects.every_id():
        newest: LocalKey | None = None
        expected: int | None = None
        async for meta in objects.every_object(names.state_prefix(key_id)):
            wrong: Unreadable | None = None
            try:
                number = names.parse_state_number(meta.key)
            except ValueError:
                yield meta.key, CorruptObjectError(meta.key, 0, "this is no name of a state.")
                continue
            try:
                state = await objects.read_state(meta.key)
                newest = newest or state
            except (CorruptObjectError, KeyUnavailableError) as error:
                wrong = error
            if wrong is None and expected is not None and number != expected:
                wrong = CorruptObjectError(meta.key, 0, f"state {expected} is missing.")
            expected = number - 1
            yield meta.key, wrong
        if expected:
            name = names.state(key_id, expected)
            yield name, CorruptObjectError(name, 0, "state is missing.")
        if newest is not None:
            async for found in _check_material(objects, newest):
                yield found


async def _check_material(
    objects: KeyObjects, key: LocalKey
) -> AsyncIterator[tuple[str, Unreadable | None]]:
    if key.phase is Phase.DESTROYED:
        return
    for version in key.versions:
        name = names.material(key.key_id, version.unique)
        wrong: Unreadable | None = None
        try:
            await objects.read_material(name)
        except ObjectNotFoundError:
            now = await objects.find_newest(key.key_id)
            if now is None or now.phase is Phase.DESTROYED:
                return
            wrong = CorruptObjectError(name, 0, "material is missing.")
        except (CorruptObjectError, KeyUnavailableError) as error:
            wrong = error
        yield name, wrong
