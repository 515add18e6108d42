"""One function per operation: take what the request says, call the engine, shape the answer."""
