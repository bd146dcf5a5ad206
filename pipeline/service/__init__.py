"""A corpus over the network: an HTTP service, its page, and a server of tools for agents."""
