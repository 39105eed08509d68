"""Whether a state dict fits a model, and saying clearly how it does not."""

import functools
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.models._head import classifier_paths
from mcld.models._registry import list_models
from mcld.models._zoo import ZooModel

State = Mapping[str, Tensor]

# Checkpoints from before PyTorch 0.4.1 lack this counter, which plain BatchNorm does not use.
_COUNTER = "num_batches_tracked"
AUXILIARY = ("aux1", "aux2", "AuxLogits")
"""The auxiliary classifiers of the Inceptions of torchvision and timm."""


def fits(model: nn.Module, state: State) -> bool:
    """Whether keys and shapes are those of the model, BatchNorm's step counters aside."""
    wanted = model.state_dict()
    missing = wanted.keys() - state.keys()
    return (
        all(key.endswith(_COUNTER) for key in missing)
        and state.keys() <= wanted.keys()
        and all(value.shape == wanted[key].shape for key, value in state.items())
    )


def overlap(model: nn.Module, state: State) -> int:
    """Count the keys that the model has too, with the same shape counting twice."""
    wanted = model.state_dict()
    return sum(1 + (state[key].shape == wanted[key].shape) for key in wanted.keys() & state.keys())


def fill(model: nn.Module, state: State) -> int:
    """Put a state dict that fits into the model and return how many step counters it lacked; these become 0."""
    full = dict(state)
    lacking = [key for key in model.state_dict() if key not in full]
    full.update({key: torch.tensor(0) for key in lacking})
    model.load_state_dict(full)
    return len(lacking)


def mismatch(model: nn.Module, state: State, source: str) -> InputError:
    """Make the error that says, in one line, how a state dict does not fit a model and what it would fit."""
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith(_COUNTER)]
    unexpected = [key for key in state if key not in wanted]
    differing = [key for key in state if key in wanted and state[key].shape != wanted[key].shape]
    lacks, has = _auxiliary(missing), _auxiliary(unexpected)
    if (lacks or has) and not (lacks and has) and len(lacks or has) == len({*missing, *unexpected}):
        heads = ", ".join(dict.fromkeys(key.partition(".")[0] for key in lacks or has))
        which, right = ("lacks", "false") if lacks else ("has", "true")
        return InputError(
            f"{source} {which} the auxiliary classifiers of this architecture ({heads}); make the model with "
            f"aux_logits={right} (ROLE.options.aux_logits={right})"
        )
    if classes := head_classes(model, state):
        there, here = classes
        hint = (
            f"; make the model with num_classes={there}, which on a command line is data with these {there} classes in "
            "their order, or give it a new head: load_checkpoint(..., new_head=True), or on a command line "
            "mcld train model=NAME model.checkpoint=FILE"
        )
        shown = next(key for key in differing if key.rpartition(".")[0] in classifier_paths(model))
        return InputError(
            f"{source} has a head of {there} classes and the model one of {here} ({shown}){hint if there else ''}"
        )
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if differing:
        shapes = [f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}" for key in differing]
        parts.append(f"{len(differing)} of another shape ({_some(shapes)})")
    return InputError(f"{source} does not fit the model: {', '.join(parts)}{suggestion(state)}")


def suggestion(state: State) -> str:
    """Say which model of the zoo has exactly these keys and shapes, or nothing when none has."""
    shapes = _shapes(state)
    for name, stem, head, smallest in _zoo_shapes():
        classes = (*shapes.get(f"{head}.weight", ()), 0)[0]
        in_channels = (*shapes.get(stem, ()), 0, 0)[1]
        resized = {k: (classes, *v[1:]) if k.rpartition(".")[0] == head else v for k, v in smallest.items()}
        resized[stem] = (smallest[stem][0], in_channels, *smallest[stem][2:])
        if resized == shapes:
            channels = "" if in_channels == 3 else f", in_channels={in_channels}"
            return f"; it would fit {name} (num_classes={classes}{channels})"
    return ""


@functools.cache
def _zoo_shapes() -> list[tuple[str, str, str, dict[str, tuple[int, ...]]]]:
    """List name, first weight, head and shapes of every model of the zoo, for one class and one channel."""
    found = []
    for entry in list_models():
        with torch.device("meta"):
            model = entry.build(1, 1)
        if not isinstance(model, ZooModel):
            continue  # of another package
        shapes = _shapes(model.state_dict())
        found.append((entry.name, next(key for key, shape in shapes.items() if len(shape) == 4), model.head, shapes))
    return found


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}


def head_classes(model: nn.Module, state: State) -> tuple[int, int] | None:
    """The classes of file and model when nothing but the number of rows of the classifier differs, and perhaps that of
    auxiliary classifiers; None when more differs, or nothing.
    """
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith(_COUNTER)]
    differing = [key for key in state if key in wanted and state[key].shape != wanted[key].shape]
    if missing or state.keys() - wanted.keys() or not differing:
        return None
    heads = classifier_paths(model)
    owners = {key.rpartition(".")[0] for key in differing if key not in _auxiliary(differing)}
    if owners != set(heads) or any(state[k].ndim == 0 or state[k].shape[1:] != wanted[k].shape[1:] for k in differing):
        return None
    rows = {(state[key].shape[0], wanted[key].shape[0]) for key in differing}
    return rows.pop() if len(rows) == 1 else None


def without_head(model: nn.Module, state: State) -> dict[str, Tensor]:
    """The state dict with the model's own tensors where those of the file have another shape: its new head."""
    wanted = model.state_dict()
    return {key: value if value.shape == wanted[key].shape else wanted[key] for key, value in state.items()}


def _auxiliary(keys: Iterable[str]) -> list[str]:
    """Those of auxiliary classifiers."""
    return [key for key in keys if key.partition(".")[0] in AUXILIARY]


def _some(items: Iterable[str], most: int = 4) -> str:
    listed = list(items)
    return ", ".join(listed[:most]) + (", …" if len(listed) > most else "")
