"""KILT: task files, prediction files, and their scores (Petroni et al. 2021, arXiv 2009.02252)."""

from pipeline.readers.kilt.predictions import Prediction as Prediction
from pipeline.readers.kilt.predictions import read_predictions as read_predictions
from pipeline.readers.kilt.predictions import write_predictions as write_predictions
from pipeline.readers.kilt.scores import DEFAULT_KS as DEFAULT_KS
from pipeline.readers.kilt.scores import Scores as Scores
from pipeline.readers.kilt.scores import evaluate as evaluate
from pipeline.readers.kilt.tasks import Example as Example
from pipeline.readers.kilt.tasks import KiltError as KiltError
from pipeline.readers.kilt.tasks import Output as Output
from pipeline.readers.kilt.tasks import Provenance as Provenance
from pipeline.readers.kilt.tasks import read_examples as read_examples
from pipeline.readers.kilt.tasks import write_examples as write_examples
