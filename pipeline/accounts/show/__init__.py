"""How plans and reports are shown: tables on a terminal, plots, and one HTML page."""
