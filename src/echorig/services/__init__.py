"""Many communicators that are told together."""
