"""What runs inside a container. Nothing here is imported by the server; it is copied and bound into the container."""
