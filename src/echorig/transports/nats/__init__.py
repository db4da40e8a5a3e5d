"""NATS: frames carried by a broker (https://docs.nats.io), between programs that may be in different networks.

A server subscribes to the subject of its URI. A client publishes there, and receives at a subject of its own, which is
also its address. The exchange confirms, repeats and removes duplicates as it does over UDP; the broker stores nothing.
"""
