"""RETRO: a language model that reads retrieved chunks, its encoder run live or stored beforehand."""

from encoders.retro.config import PUBLISHED_SIZES as PUBLISHED_SIZES
from encoders.retro.config import EncoderConfig as EncoderConfig
from encoders.retro.config import LanguageConfig as LanguageConfig
from encoders.retro.config import RetroConfig as RetroConfig
from encoders.retro.config import default_cca_layers as default_cca_layers
