"""The errors that a user can cause: each says what, where, found, expected, next step.

Everything here derives from `HelpersError`, so the command line can print the message
alone and a notebook can catch one name. An error that is not of this family is a
mistake of ours and keeps its traceback.
"""

from collections.abc import Sequence
from pathlib import Path


class HelpersError(Exception):
    """Something that the user can put right; the message says how."""


class PatternsFileError(HelpersError):
    """A file of patterns cannot be used.

    Parameters
    ----------
    path
        The file.
    problems
        Every problem found in it, one sentence or two each.
    """

    def __init__(self, path: str | Path, problems: Sequence[str]) -> None:
        self.path = Path(path)
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))

    def __reduce__(self) -> tuple[type, tuple[Path, tuple[str, ...]]]:
        """Let it come back from the process of a worker."""
        return type(self), (self.path, self.problems)


class LabelsError(HelpersError):
    """Labels cannot be read, stored or used."""


class StoreLostError(LabelsError):
    """The label store that was opened is gone, or is another by now.

    Parameters
    ----------
    name
        The store.
    what
        What happened to it.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"{name}: {what}. Nothing is stored any more, so that no label is lost "
            "unseen. Put it back, or a backup of it, and open it anew (run the "
            "notebook again). What was given in this session can be written to a new "
            "place: by the button on the page, or with store.rescue()."
        )


class OtherPatternsError(HelpersError):
    """A file in the work folder was made from other patterns than these."""


class WorkFolderError(HelpersError):
    """A file that an earlier stage writes is missing or broken."""


class ModelError(HelpersError):
    """A model cannot be read, or does not fit the patterns."""


class ParameterError(HelpersError):
    """A parameter has an impossible value or an unknown name."""


class ClusterError(HelpersError):
    """The cluster cannot be used, or is lost."""


class NotebookError(HelpersError):
    """A notebook stopped; the message names it, its cell and the reason."""
