"""How an image comes from its registry into a store."""
