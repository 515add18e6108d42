"""What a power loss leaves of a local store: a recorder under it, and the states a disk may be in afterwards.

    recorder = RecordingFilesystem(tmp_path / "disk")
    store = LocalStore.open(tmp_path / "disk" / "store", filesystem=recorder)
    await store.put_if_absent("a", data)
    recorder.mark("acknowledged a")
    for point in range(recorder.point + 1):
        for seed in range(6):
            recorder.materialise(tmp_path / f"{point}-{seed}", point=point, seed=seed)
            ...  # open a store there: what was acknowledged before `point` must be whole

The model is POSIX at its word, harsher than any real file system:

1. A file's bytes are durable once it was fsynced. Bytes written since may be there, or cut off anywhere, or zeros.
2. A name is durable once its directory was fsynced. Changes since (create, link, rename, unlink, mkdir, rmdir) persist
   or not, each name for itself, in any order; of several changes to one name any number of the first ones persist.
3. A durable file or directory is found only if every directory above it is: fsync says nothing of the parent.
4. After a failed fsync what was pending stays undecided for good, whatever a later fsync of the same file says.
5. The directory given to the recorder is durable; nothing outside it may be changed.

The real calls are made too, but for fsync, so the store under test works. Safe for the store's threads.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from whimbrel.core.rand import SeededRandom
from whimbrel.storage.local_filesystem import (
    DirectoryItem,
    Filesystem,
    FreeSpace,
    PosixFilesystem,
)

_BASE_NODE = 0


@dataclass(frozen=True, slots=True)
class EntryChange:
    """A name in a directory got a file or directory, or lost it (`node` is None)."""

    directory: int
    name: str
    node: int | None
    is_directory: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were appended to a file."""

    node: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """A file or directory was fsynced.

    Attributes:
        node: which.
        path: its path below the recorder's directory, for messages.
        is_effective: False when a test dropped it: the caller believes it happened.
        is_failed: it raised an error.
    """

    node: int
    path: str
    is_effective: bool = True
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A test's own note, such as an acknowledgement."""

    label: str


Event = EntryChange | Write | Sync | Mark
Hook = Callable[[str, str], None]
SyncPredicate = Callable[[int, str], bool]


@dataclass(slots=True)
class _Pending:
    """What happened to one name or file since it was durable: values and whether a failed fsync met them."""

    values: list[tuple[int | bytes | None, bool]] = field(default_factory=list)

    def stick(self) -> None:
        self.values = [(value, True) for value, _ in self.values]


class RecordingFilesystem:
    """A `Filesystem` that works, and remembers every change in order.

    Attributes:
        events: what happened so far.
        hook: called before every call that changes something, with its name (a method of `Filesystem`) and its path
            below the recorder's directory; may raise `OSError` to make the call fail, anything else to end the
            process, or wait to hold it.
        drop_sync: called for every fsync with its number (from 0) and path; True makes it lie: it returns without
            making anything durable.
    """

    def __init__(
        self,
        base: str | os.PathLike[str],
        *,
        inner: Filesystem | None = None,
        hook: Hook | None = None,
        drop_sync: SyncPredicate | None = None,
    ) -> None:
        """Starts recording below a directory, which is created if it is not there and must be empty."""
        Path(base).mkdir(parents=True, exist_ok=True)
        self._base = os.path.realpath(base)
        assert not list(Path(self._base).iterdir())
        self._inner: Filesystem = inner or PosixFilesystem()
        self._lock = threading.RLock()
        self._descriptors: dict[int, int] = {}
        self._children: dict[int, dict[str, int]] = {_BASE_NODE: {}}
        self._places: dict[int, tuple[int, str]] = {}
        self._node_count = 1
        self.events: list[Event] = []
        self.hook = hook
        self.drop_sync = drop_sync

    # --- for tests --------------------------------------------------------------------------------

    @property
    def point(self) -> int:
        """Returns the number of events so far: the point in time now."""
        return len(self.events)

    @property
    def syncs(self) -> list[Sync]:
        """Returns the fsyncs so far, in order; positions in it are the numbers that `drop_sync` gets."""
        return [event for event in self.events if isinstance(event, Sync)]

    def mark(self, label: str) -> None:
        """Notes something, such as an acknowledgement, at this point."""
        with self._lock:
            self.events.append(Mark(label))

    def marks_before(self, point: int) -> list[str]:
        """Returns the labels noted before a point."""
        return [event.label for event in self.events[:point] if isinstance(event, Mark)]

    def materialise(
        self, destination: str | os.PathLike[str], *, point: int | None = None, seed: int = 0
    ) -> None:
        """Makes a directory as the recorder's may be after power loss.

        Args:
            destination: a directory to create.
            point: power is lost after this many events; now when None.
            seed: which of the possible states: 0 loses all that may be lost; 1 keeps all names and loses all bytes
                that may be lost; 2 keeps everything; from 3 on each name and file draws its fate.
        """
        with self._lock:
            events = self.events[:point]
        disk = _Disk()
        for event in events:
            disk.apply(event)
        disk.write_out(Path(destination), _Fate(seed))

    # --- changes ----------------------------------------------------------------------------------

    def create_file(self, path: str) -> int:
        """Creates a file, and logs it."""
        with self._lock:
            self._call_hook("create_file", path)
            descriptor = self._inner.create_file(path)
            place = self._find_parent(path)
            if place is not None:
                node = self._new_node()
                self._change(place[0], place[1], node)
                self._descriptors[descriptor] = node
            return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        """Writes, and logs it."""
        with self._lock:
            self._call_hook("write", self._name(self._descriptors.get(descriptor)))
            self._inner.write(descriptor, data)
            if descriptor in self._descriptors:
                self.events.append(Write(self._descriptors[descriptor], bytes(data)))

    def fsync(self, descriptor: int) -> None:
        """Logs an fsync; the model stands in for the disk, so the real call would only take time."""
        with self._lock:
            node = self._descriptors.get(descriptor)
            if node is None:
                return  # above the recorder's directory
            path = self._name(node)
            number = len(self.syncs)
            is_dropped = self.drop_sync is not None and self.drop_sync(number, path)
            try:
                self._call_hook("fsync", path)
            except OSError:
                self.events.append(Sync(node, path, is_failed=True))
                raise
            self.events.append(Sync(node, path, is_effective=not is_dropped))

    def link(self, path: str, *, directory: int, name: str) -> None:
        """Links, and logs it."""
        with self._lock:
            parent = self._descriptors[directory]
            self._call_hook("link", self._name(parent, name))
            self._inner.link(path, directory=directory, name=name)
            self._change(parent, name, self._find(path))

    def rename(self, path: str, *, directory: int, name: str) -> None:
        """Renames, and logs the new name and the loss of the old one, which persist separately."""
        with self._lock:
            parent = self._descriptors[directory]
            self._call_hook("rename", self._name(parent, name))
            self._inner.rename(path, directory=directory, name=name)
            self._change(parent, name, self._find(path))
            source = self._find_parent(path)
            assert source is not None
            self._change(source[0], source[1], None)

    def unlink(self, path: str) -> None:
        """Unlinks, and logs it."""
        self._remove("unlink", path, self._inner.unlink)

    def make_directory(self, name: str, *, parent: int) -> None:
        """Creates a directory, and logs it."""
        with self._lock:
            node = self._descriptors.get(parent)
            assert node is not None, "a directory outside the recorder's"
            self._call_hook("make_directory", self._name(node, name))
            self._inner.make_directory(name, parent=parent)
            child = self._new_node()
            self._children[child] = {}
            self._change(node, name, child, is_directory=True)

    def remove_directory(self, path: str) -> None:
        """Removes a directory, and logs it."""
        self._remove("remove_directory", path, self._inner.remove_directory)

    # --- the rest ---------------------------------------------------------------------------------

    def open_file(self, path: str) -> int:
        """Passes on."""
        return self._inner.open_file(path)

    def open_directory(self, path: str, *, parent: int | None = None) -> int:
        """Opens a directory and remembers which one it is."""
        with self._lock:
            descriptor = self._inner.open_directory(path, parent=parent)
            if parent is None:
                node = self._find(path)
            else:
                node = self._children.get(self._descriptors.get(parent, -1), {}).get(path)
            if node is not None:
                self._descriptors[descriptor] = node
            return descriptor

    def close(self, descriptor: int) -> None:
        """Passes on."""
        with self._lock:
            self._descriptors.pop(descriptor, None)
            self._inner.close(descriptor)

    def set_modified_ns(self, descriptor: int, modified_ns: int) -> None:
        """Passes on; times are not part of the model."""
        self._inner.set_modified_ns(descriptor, modified_ns)

    def read(self, descriptor: int, *, start: int, length: int) -> bytes:
        """Passes on."""
        return self._inner.read(descriptor, start=start, length=length)

    def map(self, descriptor: int, *, length: int) -> memoryview:
        """Passes on."""
        return self._inner.map(descriptor, length=length)

    def stat(self, path: str, *, parent: int | None = None) -> os.stat_result:
        """Passes on."""
        return self._inner.stat(path, parent=parent)

    def stat_open(self, descriptor: int) -> os.stat_result:
        """Passes on."""
        return self._inner.stat_open(descriptor)

    def scan(self, path: str) -> list[DirectoryItem]:
        """Passes on."""
        return self._inner.scan(path)

    def measure_free_space(self, path: str) -> FreeSpace:
        """Passes on."""
        return self._inner.measure_free_space(path)

    # --- the tree as it is ------------------------------------------------------------------------

    def _remove(self, operation: str, path: str, remove: Callable[[str], None]) -> None:
        with self._lock:
            self._call_hook(operation, path)
            remove(path)
            place = self._find_parent(path)
            assert place is not None, "a path outside the recorder's directory"
            self._change(place[0], place[1], None)

    def _call_hook(self, operation: str, path: str) -> None:
        if self.hook is not None:
            self.hook(operation, os.path.relpath(path, self._base) if path[:1] == "/" else path)

    def _new_node(self) -> int:
        self._node_count += 1
        return self._node_count - 1

    def _change(
        self, directory: int, name: str, node: int | None, *, is_directory: bool = False
    ) -> None:
        self.events.append(EntryChange(directory, name, node, is_directory))
        if node is None:
            self._children[directory].pop(name, None)
        else:
            self._children[directory][name] = node
            self._places[node] = (directory, name)

    def _find(self, path: str) -> int | None:
        if path == self._base:
            return _BASE_NODE
        place = self._find_parent(path)
        return None if place is None else self._children[place[0]].get(place[1])

    def _find_parent(self, path: str) -> tuple[int, str] | None:
        if not path.startswith(f"{self._base}/"):
            return None
        *folders, name = path[len(self._base) + 1 :].split("/")
        node = _BASE_NODE
        for folder in folders:
            node = self._children[node][folder]
        return node, name

    def _name(self, node: int | None, below: str = "") -> str:
        if node is None:
            return "(outside)"
        parts = [below] if below else []
        while node != _BASE_NODE:
            node, name = self._places[node]
            parts.insert(0, name)
        return "/".join(parts) or "."


class _Fate:
    """Decides what persists of that which may be lost."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = SeededRandom(seed)

    def keep_changes(self, count: int) -> int:
        """Returns how many of the first `count` changes of a name persist."""
        match self._seed:
            case 0:
                return 0
            case 1 | 2:
                return count
            case _:
                return self._below(count + 1)

    def keep_bytes(self, durable: bytes, written: bytes) -> bytes:
        """Returns what is in a file that was `durable` and got `written` appended since."""
        if not written or self._seed == 2:
            return durable + written
        if self._seed in {0, 1}:
            return durable
        length = self._below(len(written) + 1)
        match self._below(4):
            case 0:
                return durable + written[:length]
            case 1:
                return durable + bytes(length)
            case 2:
                return durable + written[:length] + bytes(len(written) - length)
            case _:
                return durable + written

    def _below(self, limit: int) -> int:
        return int.from_bytes(self._random.token(8), "little") % limit


class _Disk:
    """The state of the disk: what is durable, and what is pending since."""

    def __init__(self) -> None:
        self._names: dict[int, dict[str, int | None]] = {_BASE_NODE: {}}
        self._pending_names: dict[int, dict[str, _Pending]] = {_BASE_NODE: {}}
        self._bytes: dict[int, bytes] = {}
        self._pending_bytes: dict[int, _Pending] = {}

    def apply(self, event: Event) -> None:
        """Carries out one event."""
        match event:
            case EntryChange(directory, name, node, is_directory):
                if node is not None and is_directory:
                    self._names[node] = {}
                changes = self._pending_names.setdefault(directory, {})
                changes.setdefault(name, _Pending()).values.append((node, False))
            case Write(node, data):
                self._pending_bytes.setdefault(node, _Pending()).values.append((data, False))
            case Sync(node, _, is_effective, is_failed):
                if is_failed:
                    self._stick(node)
                elif is_effective:
                    self._sync_names(node)
                    self._sync_bytes(node)
            case Mark():
                pass

    def write_out(self, path: Path, fate: _Fate, directory: int = _BASE_NODE) -> None:
        """Creates a directory and what is found in it."""
        path.mkdir()
        names = dict(self._names[directory])
        for name, pending in self._pending_names.get(directory, {}).items():
            kept_count = fate.keep_changes(len(pending.values))
            if kept_count:
                node = pending.values[kept_count - 1][0]
                assert node is None or isinstance(node, int)
                names[name] = node
        for name, node in sorted(names.items()):
            if node is None:
                continue
            if node in self._names:
                self.write_out(path / name, fate, node)
            else:
                (path / name).write_bytes(self._decide_bytes(node, fate))

    def _decide_bytes(self, node: int, fate: _Fate) -> bytes:
        values = self._pending_bytes.get(node, _Pending()).values
        written = b"".join(value for value, _ in values if isinstance(value, bytes))
        return fate.keep_bytes(self._bytes.get(node, b""), written)

    def _stick(self, node: int) -> None:
        for pending in self._pending_names.get(node, {}).values():
            pending.stick()
        if node in self._pending_bytes:
            self._pending_bytes[node].stick()

    def _sync_names(self, node: int) -> None:
        pending_names = self._pending_names.get(node, {})
        for name, pending in list(pending_names.items()):
            fresh = [i for i, (_, is_stuck) in enumerate(pending.values) if not is_stuck]
            if not fresh:
                continue
            value = pending.values[fresh[-1]][0]
            assert value is None or isinstance(value, int)
            self._names[node][name] = value
            del pending_names[name]

    def _sync_bytes(self, node: int) -> None:
        pending = self._pending_bytes.get(node)
        if pending is None or any(is_stuck for _, is_stuck in pending.values):
            return
        written = b"".join(value for value, _ in pending.values if isinstance(value, bytes))
        self._bytes[node] = self._bytes.get(node, b"") + written
        del self._pending_bytes[node]
