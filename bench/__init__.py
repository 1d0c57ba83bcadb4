"""``make bench``: figures against a floor measured in the same run, as ratios; nothing here is a test."""
