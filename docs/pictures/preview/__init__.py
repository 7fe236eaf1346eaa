"""Pictures of dashboards without Kibana: the same sources and queries, drawn with Vega-Lite and as SVG.

Frozen: bug fixes only, no new charts, options or styling. See docs/decisions/0008-dashboards.md.
"""
