"""Prometheus: its configuration, rules and alerts, and questions to it."""
