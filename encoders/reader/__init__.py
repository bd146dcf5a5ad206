"""The reader family: FiD, MemoryFiD, LUMEN and GLIMMER as settings of one model."""

from encoders.reader.config import SYSTEMS as SYSTEMS
from encoders.reader.config import ReaderConfig as ReaderConfig
from encoders.reader.config import preset as preset
from encoders.reader.folder import ReaderSettings as ReaderSettings
from encoders.reader.folder import open_reader as open_reader
