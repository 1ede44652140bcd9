"""What the operator asks and types."""
