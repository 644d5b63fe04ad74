"""Insitu: train models where the data is. Only what the data owner allows leaves."""
