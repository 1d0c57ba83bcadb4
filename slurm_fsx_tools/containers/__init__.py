"""Images in ``/fsx/containers``: their names, the catalogue of them, and which one a short name means."""
