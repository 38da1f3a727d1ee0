"""What is known about symbols and symbol-days: a database, SQLite by default. Bars are in the lake, not here."""
