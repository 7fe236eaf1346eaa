"""Pictures of dashboards without Kibana: the same sources, the same queries, drawn with Vega-Lite and as SVG."""
