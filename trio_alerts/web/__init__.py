"""What a process serves over HTTP: imported only by who serves it."""
