"""What every layer may use: time, randomness, errors, settings, logs, metrics, threads for computing."""
