"""Generated input from outside: no crash, no hang, nothing lost, whatever answers."""
