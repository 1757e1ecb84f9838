"""Cannot be imported."""

raise RuntimeError("the tables of this application were never made")
