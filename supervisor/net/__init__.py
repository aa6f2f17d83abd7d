"""What all HTTP clients of ours share."""
