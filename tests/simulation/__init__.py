"""The deterministic simulation: the real service on fakes, in virtual time; one seed is one history.

`python -m tests.simulation --seeds 2000` runs many, `--seed N` shows one; `python -m tests.simulation.mutants` shows
that broken promises would be noticed.
"""
