"""Which send waits for what, and what a received frame is; without I/O, time is an argument."""
