"""The last hop of alerting: a Redis stream in, one searchable record and one notification out."""

__version__ = "0.1.0"
