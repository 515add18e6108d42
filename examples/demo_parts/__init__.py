"""Parts of `make demo`, a module each."""
