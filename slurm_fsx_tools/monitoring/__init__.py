"""Metrics: what a node exports, and how Prometheus learns of it."""
