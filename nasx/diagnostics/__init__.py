"""What introspectability is good for: what a network tells apart, what it confuses, and what its decisions rest on."""
