"""Ready choices of settings, by name."""

from mcld.checks import check_names

# Vision transformers on small images learn little without strong augmentation and regularisation: the settings of
# Lee, Lee & Song (arXiv 2112.13492) for 32 to 64 px, which are those of DeiT (Touvron et al., ICML 2021) scaled down,
# with TrivialAugment in place of their several augmentations and a limit on the gradient's norm.
_VIT = (
    "data.batch_size=128",
    "data.policy=trivial",
    "schedule=cosine",
    "schedule.warmup=0.1",
    "schedule.lr=0.001",
    "optimizer=adamw",
    "optimizer.weight_decay=0.05",
    "optimizer.decay_norms=false",
    "optimizer.clip=1.0",
    "label_smoothing=0.1",
)
RECIPES = {"vit": _VIT}


def recipe_words(name: str, network: str, role: str) -> list[str]:
    """The settings of a recipe.

    Args:
        name: of the recipe.
        network: the network that is trained, as it was named; only timm's have stochastic depth.
        role: ``model`` or ``student``.

    Raises:
        InputError: when there is no such recipe.
    """
    check_names("recipe", [name], RECIPES)
    depth = [f"{role}.options.drop_path_rate=0.1"] if network.startswith("timm/") else []
    return [*RECIPES[name], *depth]
