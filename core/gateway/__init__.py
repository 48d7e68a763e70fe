"""The gateway: the proxy all model calls pass, where they are metered and may be held."""
