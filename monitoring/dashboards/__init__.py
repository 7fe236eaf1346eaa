"""Kibana dashboards as files: sources in `monitoring/kibana/*.toml`, from here checked, compiled and imported."""
