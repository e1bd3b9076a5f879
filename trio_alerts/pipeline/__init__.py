"""One process at work: the tasks that read, claim, send and retry, and the four steps of an entry."""
