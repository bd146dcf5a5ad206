"""Readers at work on a corpus: training, answering, and the files of both."""
