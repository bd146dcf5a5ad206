"""T5 encoders: arrays in, arrays out.

These names need numpy alone. The encoders themselves are imported by module, and load their
frameworks when they load a model: `encoders.memory_encoder` (jax, flax), `encoders.retriever`
(torch, sentence-transformers).
"""

from encoders.errors import EncoderError as EncoderError
from encoders.fingerprint import Fingerprint as Fingerprint
from encoders.memory_spec import MemorySpec as MemorySpec
from encoders.model_folder import ModelFolderError as ModelFolderError
from encoders.t5_config import PUBLISHED_SIZES as PUBLISHED_SIZES
from encoders.t5_config import T5Config as T5Config
from encoders.t5_config import memory_layers as memory_layers
from encoders.t5_config import parse_live_proportion as parse_live_proportion
from encoders.template import MEMORY_TEMPLATE as MEMORY_TEMPLATE
from encoders.template import RETRIEVER_TEMPLATE as RETRIEVER_TEMPLATE
from encoders.template import PassageTemplate as PassageTemplate
