"""Jobs on a corpus: build, reencode, versions, repair. Each is a loop over components."""
