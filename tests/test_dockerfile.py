"""The image of workers for Beam's portable runners, read and not built: there may be nothing to build it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def parsed(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        instruction, _, rest = line.partition(" ")
        assert instruction in {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT"}, line
        found.append((instruction, " ".join(rest.split())))
    return found


def stages(instructions: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """By name, or by number for one without; images with their arguments put in."""
    arguments: dict[str, str] = {}
    found: dict[str, list[tuple[str, str]]] = {}
    for instruction, rest in instructions:
        if instruction == "FROM":
            image, _, name = rest.partition(" AS ")
            for key, value in arguments.items():
                image = image.replace(f"${{{key}}}", value)
            current = found[name or str(len(found))] = [("FROM", image)]
        elif not found:
            assert instruction == "ARG"
            key, _, value = rest.partition("=")
            arguments[key] = value
        else:
            current.append((instruction, rest))
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, list[tuple[str, str]]]:
    return stages(parsed((ROOT / "Dockerfile").read_text()))


def pinned(name: str) -> str:
    match = re.search(rf"(?m)^{re.escape(name)}==(\S+)$", (ROOT / "constraints.txt").read_text())
    assert match, f"constraints.txt does not pin {name}"
    return match[1]


def of(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for name, rest in stage if name == instruction]


def test_images_are_of_the_pinned_versions(found: dict[str, list[tuple[str, str]]]) -> None:
    """Beam's boot and the Beam that it starts are of one version, and so are the Pythons of all stages."""
    images = [stage[0][1] for stage in found.values()]
    (beam,) = [image for image in images if image.startswith("apache/beam_python")]
    python = re.fullmatch(rf"apache/beam_python(3\.\d+)_sdk:{re.escape(pinned('apache-beam'))}", beam)
    assert python, beam
    assert set(images) - {beam} == {f"python:{python[1]}-slim"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {python[1]}" in project["classifiers"]


def test_what_is_copied_is_there(found: dict[str, list[tuple[str, str]]]) -> None:
    packages = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
            "packages"
        ]
    )
    names, copied = list(found), set()
    for name, stage in found.items():
        for rest in of(stage, "COPY"):
            *sources, _ = shlex.split(rest)
            if sources[0].startswith("--from="):
                earlier = sources[0].removeprefix("--from=")
                assert names.index(earlier) < names.index(name)
                continue
            for source in sources:
                assert (ROOT / source).exists(), source
                copied.add(source)
    assert packages <= copied
    # What the wheel is made of besides: the metadata names them, and the build runs one.
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "constraints.txt"} <= copied


def test_workers_have_what_they_need_and_start_as_beams_do(found: dict[str, list[tuple[str, str]]]) -> None:
    last = list(found.values())[-1]
    (entrypoint,) = of(last, "ENTRYPOINT")
    assert json.loads(entrypoint) == ["/opt/apache/beam/boot"]
    assert "--from=beam /opt/apache/beam /opt/apache/beam" in of(last, "COPY")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = [rest.removeprefix("EXTRAS=") for rest in of(last, "ARG")]
    assert set(asked.split(",")) <= set(extras)
    assert any(need.startswith("apache-beam[gcp]") for need in extras["dataflow"])
    (install,) = of(last, "RUN")
    assert "-c /tmp/constraints.txt" in install
    assert "[${EXTRAS}]" in install


def test_what_the_image_installs_is_pinned() -> None:
    """Of Beam's own extra too, of which nothing is installed here: the same image tomorrow."""
    pins = {
        canonicalize_name(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = [Requirement(text) for text in importlib.metadata.requires("apache-beam") or ()]
    asked = {
        canonicalize_name(one.name)
        for one in wanted
        if one.marker is None or one.marker.evaluate({"extra": "gcp"})
    }
    assert {"google-cloud-dataflow-client", "grpcio"} <= asked
    assert asked <= pins


def test_a_wrong_file_is_seen() -> None:
    """The checks above can fail: stages and arguments are read as Docker reads them."""
    text = 'ARG V=1\n# no\nFROM a:${V} AS one\nCOPY x \\\n  y\nFROM b\nENTRYPOINT ["z"]\n'
    assert stages(parsed(text)) == {
        "one": [("FROM", "a:1"), ("COPY", "x y")],
        "1": [("FROM", "b"), ("ENTRYPOINT", '["z"]')],
    }
