"""The console's API: JSON under `/api/v1`, described by its own `openapi.json`, which is made from this code."""
