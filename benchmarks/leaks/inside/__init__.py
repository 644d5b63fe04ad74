"""What goes into a job's code folder: the script's own helpers. Only the standard library and numpy at import."""
