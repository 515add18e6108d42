"""Clients in processes of their own that put a server under load, and note when each request was sent and answered.

Closed load: every connection sends its next request as soon as it has an answer; that finds what a server can do. Open
load: requests come at times of their own, whether the server keeps up or not, as they do from many clients that know
nothing of each other; that finds what it does with more than it can. There a request's time counts from when it was
due, also while no connection is free for it.
"""

import multiprocessing
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import numpy as np
from numpy.typing import NDArray

from bench.serving.target import Dialogue, Verdict

READ_BYTES = 256 * 1024
POLL_S = 0.05
START_DELAY_S = 0.5
CONNECT_TIMEOUT_S = 10.0
LINGER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is asked for.

    Attributes:
        duration_s: how long requests are sent.
        process_count: client processes.
        connection_count: connections of each.
        rate: requests a second in all, drawn at random times; None keeps every connection busy instead.
    """

    duration_s: float
    process_count: int = 1
    connection_count: int = 8
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests of a load, in no order.

    Attributes:
        due_s: float64 [n], when each was to be sent, seconds from the start of the load.
        latency_ms: float64 [n], from then to its answer.
        verdicts: int8 [n], values of `Verdict`.
        elapsed_s: from the start to the last answer.
        client_cpu_s: processor time that the clients took.
    """

    due_s: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    verdicts: NDArray[np.int8]
    elapsed_s: float
    client_cpu_s: float

    def answered_ms(self) -> NDArray[np.float64]:
        """Returns the latencies of the requests that were answered."""
        return self.latency_ms[self.verdicts == Verdict.ANSWERED]

    def share(self, verdict: Verdict) -> float:
        """Returns the share of requests with a verdict, 0 to 1."""
        return float((self.verdicts == verdict).mean()) if len(self.verdicts) else 0.0

    @property
    def answered_per_s(self) -> float:
        """How many requests were answered a second."""
        return int((self.verdicts == Verdict.ANSWERED).sum()) / self.elapsed_s


class RunningLoad:
    """A load that has begun; `finish` waits for its end."""

    def __init__(self, dialogue: Dialogue, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._processes = []
        for number in range(load.process_count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_run_client, args=(dialogue, load, number, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()  # connected
        self.start_s = time.monotonic() + START_DELAY_S
        for pipe in self._pipes:
            pipe.send(self.start_s)

    def finish(self) -> Outcome:
        """Returns what became of the requests."""
        parts = [pipe.recv() for pipe in self._pipes]
        for process in self._processes:
            process.join()
        due, latency, verdicts = (
            np.concatenate([part[place] for part in parts]) for place in range(3)
        )
        return Outcome(
            due_s=due,
            latency_ms=latency,
            verdicts=verdicts,
            elapsed_s=max(part[3] for part in parts),
            client_cpu_s=sum(part[4] for part in parts),
        )


def run_load(dialogue: Dialogue, load: Load) -> Outcome:
    """Puts a server under load and returns what became of the requests."""
    return RunningLoad(dialogue, load).finish()


def ask_all(dialogue: Dialogue) -> list[bytes]:
    """Sends every request once, one after the other, and returns the answers whole."""
    answers = []
    with socket.create_connection(dialogue.address, CONNECT_TIMEOUT_S) as connection:
        dialogue.greet(connection)
        for request in dialogue.requests:
            connection.sendall(request)
            received = bytearray()
            while not (length := dialogue.answer_length(received)):
                part = connection.recv(READ_BYTES)
                if not part:
                    raise RuntimeError("the server closed the connection")
                received += part
            if dialogue.verdict(received) is not Verdict.ANSWERED:
                raise RuntimeError(f"a request failed. answer=`{bytes(received[:500])!r}`")
            answers.append(bytes(received[:length]))
    return answers


def _run_client(dialogue: Dialogue, load: Load, number: int, pipe: Pipe) -> None:
    client = _Client(dialogue, load, number)
    pipe.send("connected")
    start_s = pipe.recv()
    cpu_s = time.process_time()
    client.run(start_s)
    pipe.send(
        (
            np.array(client.due) - start_s,
            np.array(client.latency) * 1e3,
            np.array(client.verdicts, dtype=np.int8),
            client.ended_s - start_s,
            time.process_time() - cpu_s,
        )
    )


class _Caller:
    """One connection: at most one request at a time."""

    __slots__ = ("due_s", "received", "socket", "unsent")

    def __init__(self, dialogue: Dialogue) -> None:
        self.received = bytearray()
        self.unsent = memoryview(b"")
        self.due_s = 0.0
        self.connect(dialogue)

    def connect(self, dialogue: Dialogue) -> None:
        self.socket = socket.create_connection(dialogue.address, CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dialogue.greet(self.socket)
        self.socket.settimeout(0.0)
        self.received.clear()


class _Client:
    """All connections of one process, in one loop."""

    def __init__(self, dialogue: Dialogue, load: Load, number: int) -> None:
        self._dialogue = dialogue
        self._load = load
        self._rng = np.random.default_rng([number, 77])
        self._next = int(self._rng.integers(len(dialogue.requests)))
        self._poll = select.epoll()
        self._callers: dict[int, _Caller] = {}
        self._idle: deque[_Caller] = deque()
        self._waiting: deque[float] = deque()
        self.due: list[float] = []
        self.latency: list[float] = []
        self.verdicts: list[int] = []
        self.ended_s = 0.0
        for _ in range(load.connection_count):
            self._add(_Caller(dialogue))

    def _add(self, caller: _Caller) -> None:
        self._callers[caller.socket.fileno()] = caller
        self._poll.register(caller.socket.fileno(), select.EPOLLIN)
        self._idle.append(caller)

    def run(self, start_s: float) -> None:
        """Sends until the time is over, then waits for the answers."""
        limit_s = start_s + self._load.duration_s
        while time.monotonic() < start_s:
            time.sleep(0.001)
        self.ended_s = start_s
        send_due = self._send_all if self._load.rate is None else self._scheduled(start_s)
        while (now_s := time.monotonic()) < limit_s:
            wait_s = send_due(now_s)
            self._take_answers(min(wait_s, limit_s - now_s))
        while len(self._idle) < len(self._callers) and time.monotonic() < limit_s + LINGER_S:
            self._take_answers(POLL_S)

    def _send_all(self, now_s: float) -> float:
        while self._idle:
            self._send(self._idle.popleft(), now_s)
        return POLL_S

    def _scheduled(self, start_s: float) -> Callable[[float], float]:
        assert self._load.rate is not None
        mean_s = self._load.process_count / self._load.rate
        due_s = start_s

        def send_due(now_s: float) -> float:
            nonlocal due_s
            while due_s <= now_s:
                self._waiting.append(due_s)
                due_s += float(self._rng.exponential(mean_s))
            while self._waiting and self._idle:
                self._send(self._idle.popleft(), self._waiting.popleft())
            return max(0.0, due_s - now_s)

        return send_due

    def _send(self, caller: _Caller, due_s: float) -> None:
        requests = self._dialogue.requests
        caller.due_s = due_s
        caller.unsent = memoryview(requests[self._next % len(requests)])
        self._next += 1
        self._push(caller)

    def _push(self, caller: _Caller) -> None:
        """Sends what the connection takes; the rest when it takes more."""
        try:
            sent = caller.socket.send(caller.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._renew(caller)
            return
        had_rest = sent < len(caller.unsent)
        caller.unsent = caller.unsent[sent:]
        events = select.EPOLLIN | (select.EPOLLOUT if had_rest else 0)
        if had_rest or sent == 0:
            self._poll.modify(caller.socket.fileno(), events)

    def _take_answers(self, timeout_s: float) -> None:
        for number, events in self._poll.poll(timeout_s):
            caller = self._callers[number]
            if events & select.EPOLLOUT:
                self._push(caller)
                if not caller.unsent:
                    self._poll.modify(number, select.EPOLLIN)
            if events & (select.EPOLLIN | select.EPOLLHUP):
                self._read(caller)

    def _read(self, caller: _Caller) -> None:
        try:
            part = caller.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._renew(caller)
            return
        caller.received += part
        length = self._dialogue.answer_length(caller.received)
        if not length:
            return
        self._note(caller, self._dialogue.verdict(caller.received))
        del caller.received[:length]
        self._idle.append(caller)

    def _renew(self, caller: _Caller) -> None:
        """Notes what was asked on a connection that broke as failed, and makes a new one."""
        if caller not in self._idle:
            self._note(caller, Verdict.FAILED)
        else:
            self._idle.remove(caller)
        del self._callers[caller.socket.fileno()]
        caller.socket.close()
        caller.connect(self._dialogue)
        caller.unsent = memoryview(b"")
        self._add(caller)

    def _note(self, caller: _Caller, verdict: Verdict) -> None:
        self.ended_s = time.monotonic()
        self.due.append(caller.due_s)
        self.latency.append(self.ended_s - caller.due_s)
        self.verdicts.append(verdict)
