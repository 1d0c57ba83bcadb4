"""Grafana's dashboards, made from tables: ``share/grafana/*.json``.

Write them anew with: python -m slurm_fsx_tools.monitoring.dashboards.files share/grafana
"""
