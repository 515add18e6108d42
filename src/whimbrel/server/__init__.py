"""The composition root: puts settings, store, engine, authentication and wire together and keeps them running.

The only layer that names concrete classes; everything below receives what it needs as arguments.
"""
