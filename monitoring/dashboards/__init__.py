"""Kibana dashboards as files: sources in `monitoring/dashboards/kibana/*.toml`, from here checked, compiled and imported."""
