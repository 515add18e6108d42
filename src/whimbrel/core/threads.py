"""Threads that work until the process ends, and keep none from ending.

The standard library's pools refuse all work once the main thread has ended, though other threads of the program go on,
and what is left in the program's own pools is still to be done. A store opened inside a program must serve those until
the last of them is through, so its pools are these. They are otherwise alike: threads are started as work comes, up to
their number, and what is submitted runs in order.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Task = tuple[Future[Any], Callable[[], Any]]


class ThreadPool(Executor):
    """At most so many threads, and a queue of what they are to do."""

    def __init__(self, thread_count: int, name: str) -> None:
        """Makes a pool without threads yet.

        Args:
            thread_count: most threads, at least 1.
            name: what their names begin with.
        """
        self._thread_count = thread_count
        self._name = name
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Returns the future of a call that some thread makes.

        Raises:
            RuntimeError: the pool has been shut down.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_shut:
                raise RuntimeError("the pool has been shut down")
            self._tasks.put((future, lambda: fn(*args, **kwargs)))
            is_taken = self._idle.acquire(blocking=False)
            if not is_taken and len(self._threads) < self._thread_count:
                self._start_thread()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as its base has it
        """Takes no more work, and ends the threads when what is queued is done."""
        with self._lock:
            self._is_shut = True
            if cancel_futures:
                self._cancel_queued()
            for _ in self._threads:
                self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _start_thread(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _cancel_queued(self) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except Empty:
                return
            if task is not None:
                task[0].cancel()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            future, call = task
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001 - whoever waits for the result is told
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del task, future, call  # what a call held must not be kept until the next one

    def _next(self) -> Task | None:
        try:
            return self._tasks.get_nowait()
        except Empty:
            self._idle.release()
            return self._tasks.get()
