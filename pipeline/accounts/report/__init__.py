"""What a built corpus takes and took."""
