"""The service: models that answer over HTTP, and the page that runs in a browser."""
