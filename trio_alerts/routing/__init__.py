"""Which channels get an alert."""
