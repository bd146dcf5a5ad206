"""`python -m storage.native`: compile the decoders, in place."""

from storage.native import building

raise SystemExit(building.main())
