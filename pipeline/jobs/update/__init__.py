"""`update`: the next generation of a corpus, out of a new dump or of changes by page."""

from pipeline.jobs.update.inputs import UpdateSettings as UpdateSettings
from pipeline.jobs.update.inputs import choose as choose
from pipeline.jobs.update.run import Updated as Updated
from pipeline.jobs.update.run import update as update
