"""Sockets: UDP, TCP, TLS, limits on connections, reconnecting."""
