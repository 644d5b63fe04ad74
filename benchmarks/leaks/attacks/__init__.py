"""Attacks: each file is a script that leaks and the decoder that reads it back."""
