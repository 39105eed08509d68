"""Where the stages of a network are, and their outputs as maps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from mcld.errors import InputError
from mcld.models import ZooModel
from mcld.outputs import first_tensor

STAGES = 4  # of a network whose blocks all have one resolution, such as a ViT

Run = Callable[[], object]
"""Runs the network once on blank images, in evaluation mode."""


def find_stages(model: nn.Module, run: Run, what: str, name: str) -> list[str]:
    """The modules whose outputs are the maps of the stages, from early to late.

    The zoo and timm (its ``feature_info``) say where they are; in torchvision they are ``layer1`` to ``layer4``, or
    among the children of ``features``, of ``encoder.layers`` or of the network itself. In any other network they are
    the last modules to run at each resolution, or four evenly spaced blocks where there is one resolution only.

    Args:
        model: to look in.
        run: runs it.
        what: the argument that names stages, for messages.
        name: of the network, for messages.

    Raises:
        InputError: when there are none.
    """
    if isinstance(model, ZooModel):
        return list(model.stages)
    sizes = _sizes(model, run)
    usual = [path for path in _usual(model) if path in sizes]
    found = _last_of_each_size(usual, sizes)
    if len(found) < 2:  # a network of somebody's own, or one that is inside another
        anywhere = [path for path in sizes if not _drops(model.get_submodule(path))]
        resolutions = _last_run_of_each_size(anywhere, sizes)
        if len(resolutions) > 1:
            return resolutions
        blocks = _spread(_longest_row(model, anywhere))
        found = blocks if len(blocks) > len(found) else found
    if found:
        return found
    right = ", ".join(path for path, _ in model.named_children())
    raise InputError(f"{name} has no stages to be found; name them: {what}=[...], of {right} and what is in them")


def to_map(model: nn.Module, output: Any, path: str, name: str) -> Tensor:
    """A module's output as (B, c, h, w).

    Raises:
        InputError: for an output that is no map, with its shape.
    """
    output = first_tensor(output)
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.permute(0, 3, 1, 2) if _channels_last(model) else output
    if isinstance(output, Tensor) and output.ndim == 3 and (tokens := _square(model, output)) is not None:
        return tokens
    given = f"gives {tuple(output.shape)}" if isinstance(output, Tensor) else f"gives {type(output).__name__}"
    raise InputError(
        f"{name}: module {path!r} {given if output is not None else 'is not run'}; "
        "expected maps (B, c, h, w), or tokens (B, N, c) that form a square"
    )


def _square(model: nn.Module, tokens: Tensor) -> Tensor | None:
    """Tokens (B, N, c) as maps without the class token, or None where they form no square."""
    B, N, c = tokens.shape
    prefix = getattr(model, "num_prefix_tokens", None)
    for extra in (0, 1, 2) if prefix is None else (int(prefix),):  # DeiT has a second one, for distillation
        side = math.isqrt(max(N - extra, 0))
        if side and side * side == N - extra:
            return tokens[:, extra:].transpose(1, 2).reshape(B, c, side, side)
    return None


def _channels_last(model: nn.Module) -> bool:
    return getattr(model, "output_fmt", None) == "NHWC" or type(model).__name__ == "SwinTransformer"


def _sizes(model: nn.Module, run: Run) -> dict[str, tuple[int, int]]:
    """(height, width) of the output of every module that gives a map, in the order in which they end."""
    sizes: dict[str, tuple[int, int]] = {}
    handles = []
    for path, module in model.named_modules():

        def keep(_: nn.Module, __: Any, output: Any, path: str = path) -> None:
            try:
                found = to_map(model, output, path, "")
            except InputError:  # no map
                return
            sizes.pop(path, None)  # one that runs several times counts where it runs last
            sizes[path] = (found.shape[2], found.shape[3])

        if path:
            handles.append(module.register_forward_hook(keep))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def _usual(model: nn.Module) -> list[str]:
    """Modules that may be stages of a network of timm or torchvision, from early to late."""
    known = dict(model.named_modules())
    info = getattr(model, "feature_info", None)
    if isinstance(info, Sequence):
        names = [str(entry["module"]) for entry in info]
    elif hasattr(model, "layer1"):
        names = [f"layer{i}" for i in range(1, 5)]
    else:
        parent = next((path for path in ("features", "encoder.layers") if path in known), "")
        names = [f"{parent}.{child}".lstrip(".") for child, _ in known[parent].named_children()]
    return [path for path in names if path in known and "Pool" not in type(known[path]).__name__]


def _last_of_each_size(paths: Sequence[str], sizes: dict[str, tuple[int, int]]) -> list[str]:
    after = [*paths[1:], ""]
    last = [path for path, following in zip(paths, after, strict=True) if sizes[path] != sizes.get(following)]
    if len(last) > 1 or len(paths) <= STAGES:
        return last if len(last) > 1 else list(paths)
    return _spread(paths)


def _last_run_of_each_size(paths: Sequence[str], sizes: dict[str, tuple[int, int]]) -> list[str]:
    """The last to end at each resolution, as long as maps get smaller: a gate's (1, 1) within a block is no stage."""
    last = {sizes[path]: path for path in paths}
    order = sorted(last, key=lambda size: paths.index(last[size]))
    smaller = [
        size for i, size in enumerate(order) if all(math.prod(size) > math.prod(later) for later in order[i + 1 :])
    ]
    return [last[size] for size in smaller]


def _longest_row(model: nn.Module, paths: Sequence[str]) -> list[str]:
    """The blocks of the longest list of modules of one kind that all give maps."""
    rows: dict[tuple[str, type], list[str]] = {}
    for path in paths:
        rows.setdefault((path.rpartition(".")[0], type(model.get_submodule(path))), []).append(path)
    lists = [row for (parent, _), row in rows.items() if isinstance(model.get_submodule(parent), _LISTS)]
    return max(lists, key=len, default=[])


def _spread(paths: Sequence[str]) -> list[str]:
    """All of them, or four that are evenly spaced, the last among them."""
    if len(paths) <= STAGES:
        return list(paths)
    return [paths[(i + 1) * len(paths) // STAGES - 1] for i in range(STAGES)]


def _drops(module: nn.Module) -> bool:
    """Whether a module is no stage: it pools, or drops parts at random."""
    return any(word in type(module).__name__ for word in ("Pool", "Drop"))


_LISTS = (nn.ModuleList, nn.Sequential)
