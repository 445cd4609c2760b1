"""Under which licences the packages are that this one needs."""

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass

PACKAGE = "single-hits"
_COPYLEFT = re.compile(r"GPL|General Public|EUPL|CeCILL|Affero", re.IGNORECASE)
_CLASSIFIER = "License :: OSI Approved :: "
_LONGEST = 60  # some give the whole text


@dataclass(frozen=True)
class Licence:
    """A package, and what it may be used under.

    Attributes
    ----------
    name, version
        Of the package; "" = it is not installed here.
    licence
        As the package says it.
    needed_by
        "all", or the names of the extras that bring it.
    """

    name: str
    version: str
    licence: str
    needed_by: tuple[str, ...]

    @property
    def is_copyleft(self) -> bool:
        """Whether it asks something of programs that are handed on with it."""
        return bool(_COPYLEFT.search(self.licence))


def find_licences() -> list[Licence]:
    """Return the licences of all dependencies, of those of extras too, by name."""
    needed: dict[str, set[str]] = {}
    metadata = importlib.metadata.metadata(PACKAGE)
    for extra in ("", *(metadata.get_all("Provides-Extra") or ())):
        for name in _find_all(PACKAGE, extra, set()):
            needed.setdefault(name, set()).add(extra or "all")
    return [
        _describe(name, ("all",) if "all" in extras else tuple(sorted(extras)))
        for name, extras in sorted(needed.items())
    ]


def describe_licences() -> list[str]:
    """Return a table of all licences, and a line on those that ask for something."""
    found = find_licences()
    rows = [
        (each.name, each.version or "–", ", ".join(each.needed_by), each.licence)
        for each in found
    ]
    rows = [("package", "version", "needed by", "licence"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = [
        "  ".join(
            [*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]
        )
        for row in rows
    ]
    asking = [f"{e.name} ({', '.join(e.needed_by)})" for e in found if e.is_copyleft]
    return [
        *table,
        "",
        f"Copyleft: {', '.join(asking) or 'none'}.",
        "«all» is always installed; the rest comes with an extra of that name, which "
        "nobody needs who does not use it.",
    ]


def _find_all(name: str, extra: str, seen: set[str]) -> Iterator[str]:
    """Give what a package needs, and what that needs, each once."""
    if not _is_installed(name):
        return
    for requirement in importlib.metadata.requires(name) or ():
        text, _, marker = requirement.partition(";")
        asked = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if (asked[1] if asked else "") != extra:
            continue
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", text.strip())
        needed = _normalise(match[1]) if match else ""
        is_for_others = marker and not extra and not _is_installed(needed)
        if needed in seen or is_for_others:  # another system or version of Python
            continue
        seen.add(needed)
        yield needed
        for each in ("", *((match and match[2]) or "").split(",")):
            yield from _find_all(needed, each, seen)


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _describe(name: str, needed_by: tuple[str, ...]) -> Licence:
    if not _is_installed(name):
        return Licence(name, "", "not installed here", needed_by)
    found = importlib.metadata.distribution(name)
    facts = found.metadata
    classifiers = [
        each.removeprefix(_CLASSIFIER)
        for each in facts.get_all("Classifier") or ()
        if each.startswith(_CLASSIFIER)
    ]
    said = [
        *(facts.get_all("License-Expression") or ()),
        "; ".join(classifiers),
        *(_first_line(text) for text in facts.get_all("License") or ()),
        *(
            _first_line(file.read_text())
            for file in found.files or ()
            if _is_text(file)
        ),
        "not said",
    ]
    licence = next(text for text in said if text)
    return Licence(name, found.version, licence[:_LONGEST], needed_by)


def _is_text(file: importlib.metadata.PackagePath) -> bool:
    return ".dist-info" in file.parts[0] and file.name.startswith(("LICEN", "COPYING"))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
