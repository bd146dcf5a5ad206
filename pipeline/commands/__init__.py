"""The subcommands of `memcorpus`, by what they do."""
