"""The stream on Redis, Valkey or a cluster: the only files that know redis-py."""
