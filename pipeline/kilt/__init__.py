"""KILT: task files, prediction files, and their scores (Petroni et al. 2021, arXiv 2009.02252)."""

from pipeline.kilt.predictions import Prediction as Prediction
from pipeline.kilt.predictions import read_predictions as read_predictions
from pipeline.kilt.predictions import write_predictions as write_predictions
from pipeline.kilt.scores import DEFAULT_KS as DEFAULT_KS
from pipeline.kilt.scores import Scores as Scores
from pipeline.kilt.scores import evaluate as evaluate
from pipeline.kilt.tasks import Example as Example
from pipeline.kilt.tasks import KiltError as KiltError
from pipeline.kilt.tasks import Output as Output
from pipeline.kilt.tasks import Provenance as Provenance
from pipeline.kilt.tasks import read_examples as read_examples
from pipeline.kilt.tasks import write_examples as write_examples
