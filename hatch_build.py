"""Compiles the decoders into wheels and editable installations, where there is a compiler.

Without one, or with MEMCORPUS_NATIVE=off, the wheel is pure Python and nothing fails: NumPy decodes.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("MEMCORPUS_NATIVE") in ("off", "0"):
            return
        building = _building(Path(self.root))
        editable = version == "editable"
        self._scratch = None if editable else tempfile.TemporaryDirectory(prefix="memcorpus-native-")
        try:
            # An editable installation is read where it lies.
            library = building.build(building.FOLDER if self._scratch is None else Path(self._scratch.name))
        except building.BuildError as e:
            self.app.display_warning(f"memory will be decoded in NumPy: {e}")
            return
        if not editable:
            build_data["force_include"][str(library)] = f"storage/native/{library.name}"
            # For one system and processor, and for every Python.
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if scratch := getattr(self, "_scratch", None):
            scratch.cleanup()


def _building(root: Path) -> Any:
    """storage/native/building.py by itself: what `storage` imports is not there while a wheel is built."""
    spec = importlib.util.spec_from_file_location(
        "memcorpus_building", root / "storage" / "native" / "building.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
