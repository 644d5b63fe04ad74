"""Rows in the weights of networks that work."""
