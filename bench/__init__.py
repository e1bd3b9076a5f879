"""Throughput under slow receivers: the program as it is shipped, and a plain asyncio program beside it."""
