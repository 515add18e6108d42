"""Real processes over a real directory, killed with SIGKILL at chosen moments; nothing acknowledged may be lost."""
