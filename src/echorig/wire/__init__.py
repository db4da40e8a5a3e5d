"""Bytes to messages, tags and frames, and back: pure functions, compiled."""
