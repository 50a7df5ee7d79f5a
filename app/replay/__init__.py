"""Feed recorded traffic to a running collector through its real port."""
