"""A new program takes the place of this one without closing a socket."""
