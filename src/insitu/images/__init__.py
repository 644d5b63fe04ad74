"""Bases, environments and images: what jobs and services run on and in, all by digest."""
