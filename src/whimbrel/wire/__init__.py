"""The S3 Vectors protocol over HTTP: an ASGI application that decodes, checks, calls the engine and answers."""
