"""CloudWatch's agent: what it is told, beside what others tell it."""
