"""Places in files that nobody looks at, and what can be told without a file."""
