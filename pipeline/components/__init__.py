"""The components of a corpus, one noun a module: how each is made, committed and made again."""
