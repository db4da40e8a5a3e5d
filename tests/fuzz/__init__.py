"""Targets that a fuzzer feeds with bytes, and that the suite replays the corpus on. `docs/fuzzing.md` says how.

Each target is a module with a function ``one_input(data: bytes)``, which raises where something is wrong. Nothing of it
needs a fuzzer: `__main__` does.
"""

TARGETS = ('codec', 'framing', 'exchange', 'signing', 'receive')
