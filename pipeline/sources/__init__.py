"""Sources: what passages are made of, cut into splits that are read alone."""

from pipeline.sources.base import FORMATS as FORMATS
from pipeline.sources.base import Meter as Meter
from pipeline.sources.base import Skimmed as Skimmed
from pipeline.sources.base import Source as Source
from pipeline.sources.base import SourceError as SourceError
from pipeline.sources.base import Split as Split
from pipeline.sources.base import SplitReader as SplitReader
from pipeline.sources.base import SplitSkimmer as SplitSkimmer
from pipeline.sources.base import open_source as open_source
from pipeline.sources.base import read_split as read_split
from pipeline.sources.base import skim_split as skim_split
