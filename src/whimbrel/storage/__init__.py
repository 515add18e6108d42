"""Object stores: one protocol (`base`), its backends, the wrappers around them and the frame of every object.

Importing this package imports no cloud SDK; only `open_store` does, and only for a cloud store.
"""
