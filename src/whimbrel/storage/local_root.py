"""The directory that a local store was opened in, and whether its path still leads there.

A disk that is unmounted, or a directory that is moved away or replaced while a store is open, looks like one in which
every object is missing. Invariants:

1. The root is what was opened: its device and inode number. The open handle keeps the number from being used again.
2. Whoever found nothing asks `check` afterwards, and whoever changes something asks before and afterwards: absence
   counts, and a change is acknowledged, only while the path leads to the root.
3. Nothing here or above makes the root again; a store is whole once the same directory is back at its path.
"""

from whimbrel.core.errors import Durability, StoreUnavailableError
from whimbrel.storage.local_filesystem import Filesystem


class Root:
    """The directory of an open store. Safe for several threads."""

    __slots__ = ("_filesystem", "_identity", "path")

    def __init__(self, path: str, descriptor: int, filesystem: Filesystem) -> None:
        """Remembers which directory it is.

        Args:
            path: absolute, without symbolic links.
            descriptor: the directory, held open for as long as this object is used.
            filesystem: does the calls.
        """
        self.path = path
        self._filesystem = filesystem
        status = filesystem.stat_open(descriptor)
        self._identity = (status.st_dev, status.st_ino)

    def check(self, durability: Durability = Durability.NOT_APPLIED) -> None:
        """Makes sure that the path leads to the directory; costs one stat.

        Args:
            durability: of the change under way, if any.

        Raises:
            StoreUnavailableError: it leads nowhere, or to another directory.
        """
        try:
            status = self._filesystem.stat(self.path)
        except OSError as error:
            raise self._fail(error.strerror or str(error), durability) from error
        if (status.st_dev, status.st_ino) != self._identity:
            raise self._fail("Another directory is in its place", durability)

    def _fail(self, reason: str, durability: Durability) -> StoreUnavailableError:
        return StoreUnavailableError(
            "directory of the store is gone: moved, replaced or unmounted; put it back, or stop the server. "
            f"{reason}. path=`{self.path}`",
            durability=durability,
        )
