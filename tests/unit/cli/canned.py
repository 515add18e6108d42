"""A server on loopback that answers as a test says."""

import threading
from contextlib import contextmanager
from http.server import HTTPServer


@contextmanager
def served(handler):
    """Runs a server whose requests are a handler's, and yields it; it has a list for what the handler is asked."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
