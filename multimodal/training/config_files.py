"""Which YAML file a name means, and the chain of files that it builds on.

A config may begin with ``extends: NAME`` (or a list of names), relative to its own folder or else
among those carried along: those files are read first and this one over them, so no config repeats
another.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from language.errors import InputError

_HERE = Path(__file__).resolve().parents[1]
CARRIED = _HERE / "_configs" if (_HERE / "_configs").is_dir() else _HERE.parent / "configs"
"""``configs/`` as an installed package carries it, or of the source tree."""
_RUN = {"extends", "trainer", "model", "data"}
"""What a file that configures a run has one of."""


def find_config(name: str | Path) -> Path:
    """The file that ``name`` means: a path, or a name under ./configs or among those carried along.

    Raises:
        InputError: there is none; the message lists the names there are.
    """
    path = Path(name)
    inside = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    for candidate in (path, "configs" / inside, CARRIED / inside):
        for file in (candidate, candidate.with_name(candidate.name + ".yaml")):
            if file.is_file():
                return file
    raise InputError(name, f"no such config; there are {', '.join(config_names())}")


def config_names() -> list[str]:
    """Names of the stages under ./configs and of those carried along.

    Left out are shared bases, and files that configure something else than a run.
    """
    return sorted(
        {
            file.relative_to(home).with_suffix("").as_posix()
            for home in (Path("configs"), CARRIED)
            for file in home.rglob("*.yaml")
            if not file.name.startswith("_") and _RUN.intersection(read_yaml(file))
        }
    )


def chain(config: Path, *, _open: tuple[Path, ...] = ()) -> list[Path]:
    """``config`` after all that it extends, in the order in which they are to be read.

    Raises:
        InputError: a file is missing, is not YAML, or extends itself.
    """
    if config.resolve() in _open:
        raise InputError(config, "extends itself")
    bases = read_yaml(config).get("extends") or []
    files: list[Path] = []
    for base in [bases] if isinstance(bases, str) else bases:
        beside, carried = config.parent / str(base), CARRIED / str(base)
        path = beside if beside.is_file() else carried
        if not path.is_file():
            raise InputError(config, f"extends {base}, which is not there")
        files += chain(path, _open=(*_open, config.resolve()))
    return [*dict.fromkeys(files), config]


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: unreadable, not YAML, or something else than a mapping.
    """
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(file, f"not a readable YAML file ({error})") from None
    if not isinstance(data, dict):
        raise InputError(file, "not a YAML mapping of keys")
    return data


def expand(words: list[str]) -> list[str]:
    """Put the contents of each ``--config NAME``'s chain first, so that all other words win.

    Raises:
        InputError: a config is not found or cannot be read.
    """
    configs: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if key not in ("--config", "-c"):
            others.append(word)
            continue
        name = value if equals else next(rest, None)
        if name is None:
            raise InputError("--config", "give a file or a name")
        for file in chain(find_config(name)):
            contents = {key: value for key, value in read_yaml(file).items() if key != "extends"}
            configs += ["--config", json.dumps(contents)]
    return configs + others
