"""Readers at work on a corpus: training, questions, answers, KILT."""
