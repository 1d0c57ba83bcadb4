"""Keeping the catalogue and the caches in order: what is whole, what is used, what may go."""
