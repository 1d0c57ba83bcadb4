"""The configuration: its keys (`model`), its YAML (`source`), and the compiled form the prolog reads (`snapshot`)."""
