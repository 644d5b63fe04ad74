"""Readers of what a job wrote: each turns one format into numbers, text and kinds, within bounds, running nothing."""
