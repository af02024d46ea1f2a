"""Benchmarks: each a module that `make bench` runs, its dated results beside it in `results/`."""
