"""The API of AWS's KMS over the local key store, as far as it is here. `docs/reference/kms.md` says how far."""

from whimbrel.wire.kms.protocol import KmsProtocol

__all__ = ["KmsProtocol"]
