"""The metrics room, on the side of the flow: shows Prometheus and probes what the other rooms count."""
