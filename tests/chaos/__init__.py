"""Everything that goes wrong, at once and for minutes: real processes and servers, and a seed that repeats it."""
