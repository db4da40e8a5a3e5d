"""Sockets in and out."""
