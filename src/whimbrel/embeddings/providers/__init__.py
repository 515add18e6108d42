"""Models that embed, one module a kind."""
