"""Who gets a received message: callbacks, waiters and streams."""
