"""The application: loading it, its interface, its lifespan."""
