"""Tracing by OpenTelemetry: a span for each step of an alert. Only `switch` is imported where it is off."""
