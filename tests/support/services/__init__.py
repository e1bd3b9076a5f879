"""Stand-ins for the services that channels reach: they check what they get, and answer, as the documents say."""
