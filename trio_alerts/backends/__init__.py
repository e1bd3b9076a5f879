"""Adapters: the only files that know redis, opensearchpy, sqlite3 and the sockets to receivers."""
