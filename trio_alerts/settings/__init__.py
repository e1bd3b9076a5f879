"""The settings: what each may be, and where they are read from."""
