"""Out to other engines: an export loaded whole into a database, an index or an import folder."""
