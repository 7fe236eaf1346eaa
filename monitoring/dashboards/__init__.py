"""Kibana dashboards: sources in `kibana/*.toml`, which are checked, compiled and imported."""
