"""Its attribute is no application."""

application = 42
