"""What the processes count for `/metrics`: in cells of shared memory, so that nothing is lost with a process."""
