"""What a memory corpus costs: planned from a sample before the build, reported from statistics after it."""
