"""What the services share. They depend on this package, never on one another."""
