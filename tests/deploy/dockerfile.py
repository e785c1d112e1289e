"""Executes a Dockerfile without a container engine: steps run by chroot, in a root directory as the base image.

It supports only the instructions that ours uses; anything else is an error.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Mounts an overlay of $2 on $1 at $2.whole, with the folder $3 at its /mnt. The mounts end with the script.
OVERLAY = """
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$2.work" "$2.whole"
    mount --bind "$3" "$2.whole/mnt"
    root=$2.whole
    shift 3
"""


@dataclass
class Image:
    """A stage: files in `added` that overlay `base`, and its run configuration. `health` is the check command."""

    base: Path
    added: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin"})
    directory: str = "/"
    instructions: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for suffix in ("", ".whole", ".work"):
            self.added.with_suffix(suffix).mkdir()

    def within(self, script: str, *arguments: object, wheels: Path = Path("/mnt")) -> subprocess.CompletedProcess[str]:
        """Run a script of this machine that sees the merged root at $root."""
        outside = [
            "unshare",
            "--mount",
            "--net",
            "sh",
            "-ec",
            f"{OVERLAY}{script}",
            "sh",
            self.base,
            self.added,
            wheels,
        ]
        return subprocess.run([*map(str, outside), *map(str, arguments)], capture_output=True, text=True)

    def put(self, source: Path, names: list[str], target: str) -> None:
        """Execute COPY: copy files, or the contents of a folder, into a folder."""
        place = self.added / (Path(self.directory) / target).as_posix()[1:]
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            given = source / name
            subprocess.run(["cp", "--archive", f"{given}/." if given.is_dir() else given, place], check=True)

    def run(self, command: str, wheels: Path) -> None:
        """Execute RUN, but without any network: pip finds its wheels in a folder."""
        variables = {**self.environment, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/mnt"}
        given = [f"{name}={value}" for name, value in variables.items()]
        inside = ["sh", "-c", f"cd {shlex.quote(self.directory)} && {command}"]
        done = self.within('exec chroot "$root" env --ignore-environment "$@"', *given, *inside, wheels=wheels)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def steps(file: Path) -> Iterator[tuple[str, str]]:
    """Yield instructions with their arguments, without comments and line breaks."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        word, _, rest = line.strip().partition(" ")
        yield word, rest.strip()


def build(context: Path, base: Path, into: Path, wheels: Path) -> Image:
    """Execute the Dockerfile of `context` on the root `base`, which is not changed. Return the last stage."""
    stages: dict[str, Image] = {}
    image = None
    for word, rest in steps(context / "Dockerfile"):
        match word, rest.split():
            case "ARG", [given] if image is None and given.startswith("BASE="):
                continue
            case "FROM", ["${BASE}", *name]:
                image = stages[name[-1] if name else ""] = Image(base, into / f"stage{len(stages)}")
                continue
        assert image is not None
        match word, rest.split():
            case "WORKDIR", [path]:
                image.directory = path
                (image.added / path[1:]).mkdir(parents=True, exist_ok=True)
                image.instructions.append(f"{word} {rest}")
            case "ENV", pairs:
                image.environment |= dict(pair.split("=", 1) for pair in pairs)
                image.instructions += [f"ENV {pair}" for pair in pairs]
            case "COPY", [stage, source, target] if stage.startswith("--from="):
                image.put(stages[stage.removeprefix("--from=")].added, [source[1:]], target)
            case "COPY", [*sources, target]:
                image.put(context, sources, target)
            case "RUN", _:
                image.run(rest, wheels)
            case "HEALTHCHECK", _:
                image.health = json.loads(rest[rest.index("[") :])
            case (("USER" | "EXPOSE" | "ENTRYPOINT" | "CMD"), _):
                image.instructions.append(f"{word} {rest}")
            case _:
                raise NotImplementedError(f"{word} {rest}")
    assert image is not None
    return image
