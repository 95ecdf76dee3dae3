"""What the words of a command name: claims of the suite by id or topic, or of a reader's own file, FILE.py[::name]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seminar.arguments import near
from theory.proof import CLAIMS, session

EXPECTED = "expected a claim's id, a topic, or a file of derivations (notes.py, notes.py::name)"


def select(what: Sequence[str]) -> tuple[list[Path], set[str] | None]:
    """Files to prove, and the claim ids asked for (None: all); ValueError for a name nobody knows."""
    if not what:
        return session.files(), None
    known = {id: path for path in session.files() for id in session.ids_in(path)}
    topics = {id.split(".")[0] for id in known}
    files: dict[Path, None] = {}
    wanted: set[str] = set()
    for word in what:
        if word in topics:
            ids = {id for id in known if id.split(".")[0] == word}
            files |= dict.fromkeys(known[id] for id in ids)
            wanted |= ids
        elif word in known:
            files[known[word]] = None
            wanted.add(word)
        elif _names_a_file(word):
            path, ids = own_file(word, known)
            files[path] = None
            wanted |= ids
        else:
            raise ValueError(f"{word!r} is no claim, topic or file; {near(word, [*topics, *known], 'seminar list')}")
    return list(files), wanted


def _names_a_file(word: str) -> bool:
    return "/" in word or "::" in word or Path(word).suffix in (".py", ".txt", ".md", ".ipynb") or Path(word).exists()


def own_file(word: str, shipped: dict[str, Path]) -> tuple[Path, set[str]]:
    """A reader's file and the ids asked for of it; a file that does not load has the ids that stand in its text."""
    given, _, name = word.partition("::")
    path = Path(given).resolve()
    if path.is_dir():
        raise ValueError(f"{given} is a folder; {EXPECTED}: name a file in it")
    if not path.is_file():
        raise ValueError(f"there is no file {given}; {EXPECTED}")
    if path.suffix != ".py":
        raise ValueError(f"{given} is no Python file; {EXPECTED}")
    for id in session.ids_in(path):
        if shipped.get(id, path) != path:
            raise ValueError(f"{given}: {id} is claimed twice: it stands in {shipped[id]}; choose another id")
    ids, functions = _claimed(path)
    if not name:
        return path, set(ids)
    found = {id for id in ids if name in (id, id.split(".")[1], functions.get(id))}
    if len(found) != 1:
        told = near(name, [*ids, *(id.split(".")[1] for id in ids)], f"it claims {', '.join(ids)}")
        raise ValueError(f"{given} has no one claim {name!r}; {told}")
    return path, found


def _claimed(path: Path) -> tuple[list[str], dict[str, str]]:
    """The ids that a file claims, and the names of their functions as far as it loads."""
    try:
        session.load(path)
    except (Exception, SystemExit) as error:
        if ids := session.ids_in(path):
            return ids, {}  # the report says for each of them why
        raise ValueError(session.explain_load_error(path, error)) from error
    functions = {c.id: c.build.__name__ for c in CLAIMS.values() if Path(c.file).resolve() == path}
    if not functions:
        raise ValueError(f"{path.name} claims nothing; a claim is a generator under @claim('topic.name')")
    return list(functions), functions
