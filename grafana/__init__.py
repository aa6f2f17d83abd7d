"""Grafana dashboards as code: ``python -m grafana.build`` writes the JSON files beside this one."""
