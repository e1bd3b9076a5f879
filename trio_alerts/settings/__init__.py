"""What the program is told: the settings, their types, their addresses, and where each was set."""
