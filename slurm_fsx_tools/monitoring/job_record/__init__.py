"""A job's record: what Prometheus knows of it, in a line or a picture."""
