"""A unit of work: its receipt, how units overlap, are run and are watched. Knows no passage."""
