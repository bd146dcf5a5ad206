"""Sources: what passages are made of, cut into splits that are read alone."""

from pipeline.text.sources.base import FORMATS as FORMATS
from pipeline.text.sources.base import Skimmed as Skimmed
from pipeline.text.sources.base import Source as Source
from pipeline.text.sources.base import SourceError as SourceError
from pipeline.text.sources.base import Split as Split
from pipeline.text.sources.base import SplitProgress as SplitProgress
from pipeline.text.sources.base import SplitReader as SplitReader
from pipeline.text.sources.base import SplitSkimmer as SplitSkimmer
from pipeline.text.sources.base import open_source as open_source
from pipeline.text.sources.base import open_sources as open_sources
from pipeline.text.sources.base import read_split as read_split
from pipeline.text.sources.base import refuse_copies as refuse_copies
from pipeline.text.sources.base import skim_split as skim_split
