"""The sections of `benchmarks.accelerator`: what is measured of one device, each in a process of its own."""
