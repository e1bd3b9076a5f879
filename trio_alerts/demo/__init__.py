"""The demo: the whole program at work on one machine, with real parts.

A real Valkey server, the SQLite store, two worker processes and three receivers with ledgers of their own. One worker
process is killed in the middle; at the end every alert is accounted for. Start reading in `run.py`.
"""
