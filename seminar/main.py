"""`seminar COMMAND ...`: one table of commands; the command's module is imported when it is called, and not before.

Exit codes: 0 all is well; 1 something was checked and does not hold (or a run or a scene failed); 2 the command was
used wrongly, with one line that says what was given, what was expected and what to do.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# command -> (module:function, what it does in a line)
COMMANDS = {
    "verify": ("seminar.verify:main", "prove the claims, hold code and worlds against them: [ids, topics or file.py]"),
    "show": ("seminar.show:main", "claims line by line, code, worst error: topic.name, file.py or file.py::name"),
    "list": ("seminar.listing:main", "claims [TOPIC], topics, worlds, recipes, solvers, scenes, figures"),
    "syllabus": ("seminar.syllabus:main", "what is covered, topic by topic, from what the code holds"),
    "train": ("seminar.train:main", "train a recipe: RECIPE --out DIR --steps N --seed S, or --resume DIR"),
    "ema": (
        "seminar.ema:main",
        "the weight average of another width: RUN --width 0.13 (a run made with --snapshots N)",
    ),
    "export": ("seminar.export:main", "a finished run as a folder that stock diffusers loads: RUN --to diffusers"),
    "import": ("seminar.importing:main", "a checkpoint folder of diffusers as a finished run: FOLDER [--out RUN]"),
    "audit": ("seminar.audit:main", "somebody's sampler against exact worlds: FOLDER of diffusers [--scheduler CLASS]"),
    "sample": ("seminar.sample:main", "draw samples from a finished run"),
    "evaluate": (
        "seminar.evaluate:main",
        "how good a run is: toys against the exact law; images by bits/dim, FID, KID, copies: RUN",
    ),
    "render": ("seminar.render:main", "render lecture scenes: [WEEK] [--scene NAME] [--quality preview|lecture|4k]"),
    "figure": ("seminar.figure:main", "draw still pictures of claims: [topic.name or topic ...] [--out DIR] [--list]"),
    "demo": ("seminar.demo:main", "verify, train, draw and render once; ends with a table of what to look at"),
}

# command -> what makes it lighter
LIGHTER = {
    "train": "train with a smaller --batch, the same in more parts (--accumulate), or a smaller network (--width or "
    "--channels)",
    "sample": "draw fewer at a time (--n)",
    "evaluate": "judge by fewer samples (--size of a toy, --n of images)",
}

USAGE = "usage: seminar COMMAND ...   (seminar COMMAND --help says more)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Errors of use are one line on stderr, never a traceback."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(f"Diffusion models: proved, run, checked and shown.\n\n{USAGE}\n")
        print("\n".join(f"  {name:9} {words}" for name, (_, words) in COMMANDS.items()))
        return 0 if args else 2
    name, *rest = args
    if name not in COMMANDS:
        return _refuse(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    from seminar.guard import one_root

    if problem := one_root():
        return _refuse(problem)
    module, function = COMMANDS[name][0].split(":")
    try:
        return getattr(importlib.import_module(module), function)(rest)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left (| head); nothing is wrong here
        return 0
    except KeyboardInterrupt:
        return _refuse("interrupted", code=130)
    except (RuntimeError, MemoryError) as error:
        from seminar.memory import wanted

        if "--traceback" in rest or (asked := wanted(error)) is None:
            raise
        return _refuse(f"{name}: out of memory{asked}: {LIGHTER.get(name, 'ask for less at once')}")
    except (ValueError, TypeError, LookupError, OSError) as error:
        if "--traceback" in rest:
            raise
        told = error.args[0] if isinstance(error, KeyError) and error.args else error
        return _refuse(f"{name}: {' '.join(str(told).split())}")


def _refuse(message: str, code: int = 2) -> int:
    print(f"seminar: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
