"""Import a checkpoint folder of diffusers: a finished run that samples, is judged and teaches as if trained here.

A folder is that of a pipeline (model_index.json, unet/, scheduler/) or of a model alone (config.json and its weights).
Nothing in it is run: configs are JSON, weights safetensors, classes those that families/imported.py names, and a folder
of pickled weights is refused. What is not understood is refused too, before anything is written. The scheduler's config
stays with the run, to be audited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from training import durable, networks, recipes, run_folder, tensor_file
from training.families.imported import MODELS
from training.interop import chain
from training.recipes.denoising import MOST_CLASSES
from training.recipes.images import ImageRecipe
from training.recipes.imported import ImportedRecipe
from training.run_folder import RunFolder
from training.task import build

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".onnx", ".h5")
COLOURS: dict[Any, Literal["grey", "rgb"]] = {1: "grey", 3: "rgb"}
LONGEST = 2**24  # bytes of a config

Config = dict[str, Any]


def import_folder(
    folder: Path | str,
    out: Path | str | None = None,
    scheduler: Path | str | None = None,
    data: str | None = None,
    path: str = "",
    classes: int | None = None,
    std: float | None = None,
) -> RunFolder:
    """Make a run of a checkpoint folder, in `out` or runs/imported-<its name>; ValueError, in one line, if it can't be.

    scheduler    folder of its scheduler's config, where the model lies alone
    data, path   what it was trained on, as recipes name it: what it is judged by, and what its students learn from
    classes      labels that it was told; the next one, if its table has one more, says "not told"
    std          of the data, for the samplers' grids: that of the recipes of such data, or 0.5
    """
    root = Path(folder)
    out = Path("runs") / f"imported-{root.resolve().name}" if out is None else Path(out)
    run_folder.refuse_existing(out)
    place = _model_of(root)
    model, steps = _config(place / "config.json"), _scheduler_of(root, scheduler)
    recipe = dataclasses.replace(recipe_of(model, steps, classes), data=data or "folder", path=path)
    stds = {known.data: known.std for known in recipes.RECIPES.values() if isinstance(known, ImageRecipe)}
    recipe = dataclasses.replace(recipe, std=stds.get(recipe.data, recipe.std) if std is None else std)
    network = build(recipe).network()
    assert isinstance(network, networks.Stock)
    network.model.load_state_dict(_weights(place, model["_class_name"]))
    run = run_folder.create(out, recipe, seed=0)
    durable.replace(run.path / "scheduler_config.json", json.dumps(steps, indent=1).encode())  # for `seminar audit`
    for file in (run.weights, run.ema):  # the averages last: they say that the run is finished
        tensor_file.write(file, network.state_dict())
    return run


def _model_of(root: Path) -> Path:
    """Where the model lies: config.json and its weights."""
    if not root.is_dir():
        raise ValueError(f"{root} is no folder" if root.exists() else f"{root} does not exist: expected a folder")
    if (root / "vae").exists() or (root / "vqvae").exists():
        raise ValueError(f"{root} has an autoencoder, so it is of latents: only models of pixels are imported")
    for place in (root / "unet", root / "transformer", root):
        if (place / "config.json").exists():
            return place
    raise ValueError(f"{root} has no config.json, nor has unet/ or transformer/ in it: expected a folder of diffusers")


def _scheduler_of(root: Path, scheduler: Path | str | None) -> Config:
    place = root / "scheduler" if scheduler is None else Path(scheduler)
    file = place / "scheduler_config.json" if place.is_dir() else place
    if not file.exists():
        raise ValueError(f"{file} is missing, which says the chain: give another one with --scheduler FOLDER")
    config = _config(file)
    try:
        chain.refuse_other_samplers(config)
        chain.betas_of(config)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return config


def _config(file: Path) -> Config:
    try:
        if file.stat().st_size > LONGEST:
            raise ValueError(f"of {file.stat().st_size} bytes")
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no config: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} is no config: expected a table, got {type(config).__name__}")
    return config


def recipe_of(model: Config, scheduler: Config, classes: int | None) -> ImportedRecipe:
    """The recipe that two configs stand for; ValueError, naming the key, for what no recipe does."""
    name = model.get("_class_name")
    if name not in MODELS:
        raise ValueError(f"model {name!r}: expected {' or '.join(MODELS)}")
    channels, size = model.get("in_channels"), model.get("sample_size")
    if channels not in COLOURS or model.get("out_channels") not in (channels, *([None] if "DiT" in name else [])):
        raise ValueError(
            f"in_channels = {channels}, out_channels = {model.get('out_channels')}: expected 1 or 3 of pixels, and the "
            f"same of what is predicted"
        )
    if type(size) is not int:
        raise ValueError(f"sample_size = {size!r}: expected one number of pixels, for squares")
    architecture, table = _dit(model) if "DiT" in name else _unet(model)
    if classes is None:
        classes = table - 1 if "DiT" in name else table  # a DiT's last label says 'not told'
    if not (classes in (table - 1, table) or ("DiT" in name and 0 <= classes < table)):
        raise ValueError(f"classes = {classes}: the model's table has {table} labels, one of which may say 'not told'")
    made = recipes.find("imported.diffusers")
    assert isinstance(made, ImportedRecipe)
    return dataclasses.replace(
        made,
        **architecture,
        classes=max(classes, 0),
        label_dropout=0.0 if classes == table else made.label_dropout,
        colour=COLOURS[channels],
        size=size,
        parameterization=chain.KINDS[scheduler.get("prediction_type", "epsilon")],
        model=json.dumps({key: value for key, value in model.items() if key != "_name_or_path"}, sort_keys=True),
        chain=chain.told_chain(scheduler),
        within=float(scheduler.get("clip_sample_range", 1.0)) if scheduler.get("clip_sample", True) else 0.0,
    )


def _unet(model: Config) -> tuple[Config, int]:
    """The recipe's settings of such a network, and the labels in its table."""
    for key, stock in (("time_embedding_type", "positional"), ("class_embed_type", None)):
        if (value := model.get(key, stock)) != stock:
            raise ValueError(f"{key} = {value!r}: expected {stock!r}")
    try:
        settings = {
            "network": "unet",
            "channels": tuple(model["block_out_channels"]),
            "layers": model.get("layers_per_block", 2),
            "attention": tuple("Attn" in block for block in model["down_block_types"]),
            "head": model.get("attention_head_dim", 8) or 1,
            "dropout": model.get("dropout", 0.0),
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"block_out_channels and down_block_types: expected a list of each, {error}") from None
    return settings, model.get("num_class_embeds") or 0


def _dit(model: Config) -> tuple[Config, int]:
    """The same of a transformer, whose table has a label more that says "not told"."""
    if (labels := model.get("num_embeds_ada_norm", MOST_CLASSES)) != MOST_CLASSES:
        raise ValueError(f"num_embeds_ada_norm = {labels}: expected {MOST_CLASSES}")
    head = model.get("attention_head_dim", 72)
    settings = {
        "network": "dit",
        "channels": (model.get("num_attention_heads", 16) * head,),
        "layers": model.get("num_layers", 28),
        "attention": (True,),
        "head": head,
        "patch": model.get("patch_size", 2),
        "dropout": model.get("dropout", 0.0),
    }
    return settings, MOST_CLASSES + 1


def _weights(place: Path, name: str) -> dict[str, Any]:
    """The model's tensors under the names that diffusers has for them today."""
    import diffusers

    stem = "diffusion_pytorch_model.safetensors"
    if not any((place / file).exists() for file in (stem, f"{stem}.index.json")):
        if pickled := sorted(file.name for file in place.iterdir() if file.suffix in PICKLED):
            raise ValueError(
                f"{place / pickled[0]} is pickled, and reading it could run any code: have it converted to safetensors"
            )
        raise ValueError(f"{place / stem} is missing")
    try:
        with _silent(diffusers):
            model, told = getattr(diffusers, name).from_pretrained(
                place, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # whatever diffusers makes of a damaged file or of weights of other shapes
        raise ValueError(f"{place / stem} does not fit config.json: {' '.join(str(error).split())[:200]}") from None
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if told.get(what):
            raise ValueError(f"{place / stem} does not fit config.json: {what} {list(told[what])[:3]}")
    return model.state_dict()


@contextlib.contextmanager
def _silent(diffusers: Any) -> Iterator[None]:
    """Without diffusers' warnings: what they warn of is refused, in one line."""
    before = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity(50)
    try:
        yield
    finally:
        diffusers.utils.logging.set_verbosity(before)
