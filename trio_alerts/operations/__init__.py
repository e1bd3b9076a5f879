"""What operators do, without printing: the commands print what these functions return and yield.

They take an open store or stream and typed parameters, and never read the command line, the terminal or the settings'
sources: a process that keeps its backends open calls the same functions.
"""
