"""What a corpus will take, foretold from a sample or from counts."""
