"""An intercepting proxy for one child process: some hosts of AWS become the local server, the others pass or do not."""
