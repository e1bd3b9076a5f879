// See later.
