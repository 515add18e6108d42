"""Permissions: what each operation needs, and whether a principal has it.

`table` says what is needed, `needs` works it out for one request, `context` tells what conditions may ask for, and
`control` decides.
"""

from whimbrel.wire.access.control import AccessControl, OpenAccess, PolicyAccess
from whimbrel.wire.access.needs import ALL, Need, NeedReader
from whimbrel.wire.access.table import RULES

__all__ = ["ALL", "RULES", "AccessControl", "Need", "NeedReader", "OpenAccess", "PolicyAccess"]
