"""Its attribute is not an application."""

application = 42
