"""Tables that are printed after all tests, by title. The text of a table is its `str`."""

TABLES: dict[str, object] = {}
