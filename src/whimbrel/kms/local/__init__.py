"""The key store for people without a KMS: keys in the store itself, below the server's master key."""
