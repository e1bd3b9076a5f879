"""The store in one SQLite file: the only files that know sqlite3."""
