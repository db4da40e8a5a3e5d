"""Benchmarks: how fast echorig is, beside a bare echo and iblutil; see docs/performance.md."""
