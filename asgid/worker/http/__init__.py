"""One request and its response, whatever version of HTTP carries them."""
