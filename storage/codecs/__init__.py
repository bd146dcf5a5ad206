"""How a token's memory is stored: each codec a name, a configuration, and a stated error bound."""

from storage.codecs.base import Codec as Codec
from storage.codecs.base import Coder as Coder
from storage.codecs.base import Parameters as Parameters
from storage.codecs.base import bfloat16 as bfloat16
from storage.codecs.floats import BFLOAT16 as BFLOAT16
from storage.codecs.floats import FLOAT16 as FLOAT16
from storage.codecs.floats import FLOAT32 as FLOAT32
from storage.codecs.registry import NAMES as NAMES
from storage.codecs.registry import by_name as by_name
from storage.codecs.registry import from_json as from_json
from storage.codecs.registry import untrained as untrained
