"""From sources to passages: dumps, wikitext, articles, cutting. No Beam, no model."""
