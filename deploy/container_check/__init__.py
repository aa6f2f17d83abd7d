"""What can be known of the image and compose.yaml without a container engine; see ``deploy/check-container``."""
