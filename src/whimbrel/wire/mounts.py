"""Several applications behind one listener, each under a path of its own.

1. A request reaches the application whose name its path starts with, and no other: what one application serves cannot
   be seen or changed through the address of another, also after that one is gone.
2. A path that starts with the name of no application is answered 403 in AWS's shape.

For one event loop.
"""

from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.core.rand import Random
from whimbrel.wire.app import WireApp
from whimbrel.wire.connections import Connections
from whimbrel.wire.errors import ErrorAnswer
from whimbrel.wire.exchange import JSON_TYPE, Answered, Exchange, encode_error, make_request_id
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import BodyBudget, Channel, ClientGoneError, RequestHead

GONE_CODE: Final = "AccessDeniedException"


class MountedApps:
    """An endpoint that hands each request on to one of several.

    Attributes:
        connections: those that lead to any of them.
    """

    def __init__(
        self, *, gone_text: str, options: WireOptions, random: Random, clock: Clock
    ) -> None:
        """Starts without any application.

        Args:
            gone_text: what a client is told whose address belongs to no application.
            options: the listener's limits.
            random: makes request ids.
            clock: times requests, for the applications as well.
        """
        self._gone = ErrorAnswer(GONE_CODE, 403, gone_text)
        self._options = options
        self._random = random
        self._clock = clock
        self._apps: dict[bytes, WireApp] = {}
        self.connections = Connections()

    def mount(self, name: str, app: WireApp) -> None:
        """Serves an application under `/<name>/` from now on."""
        assert name.encode() not in self._apps
        self._apps[name.encode()] = app
        app.set_ready(True)

    def unmount(self, name: str) -> None:
        """Lets no further request through to an application; what it is working on goes on."""
        self._apps.pop(name.encode()).set_ready(False)

    def make_request_id(self) -> str:
        """Returns a new request id, for answers that are given before a request could be told."""
        return make_request_id(self._random)

    def now_s(self) -> float:
        """Returns the time by which requests are timed, seconds."""
        return self._clock.monotonic_s()

    def start(self) -> None:
        """Is told that a listener is in front; applications come and go on their own."""

    async def stop(self) -> None:
        """Is told that it has gone."""

    async def serve(self, head: RequestHead, channel: Channel) -> None:
        """Hands one request on."""
        _, _, rest = head.raw_path.partition(b"/")
        name, _, rest = rest.partition(b"/")
        app = self._apps.get(name)
        if app is None:
            await self._refuse(head, channel)
        else:
            await app.serve(head.with_path(b"/" + rest), channel)

    async def _refuse(self, head: RequestHead, channel: Channel) -> None:
        budget = BodyBudget(0)  # the body is dropped, never kept
        exchange = Exchange(head, channel, request_id=self.make_request_id(), budget=budget)
        exchange.record.code = self._gone.code
        answered = Answered(self._gone.status, JSON_TYPE, encode_error(self._gone))
        try:
            await exchange.send_answer(answered, options=self._options)
        except ClientGoneError:
            return
