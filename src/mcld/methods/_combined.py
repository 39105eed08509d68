"""Several methods at once."""

from collections.abc import Mapping

from torch import Tensor, nn

from mcld.checks import check_names, check_options
from mcld.errors import InputError
from mcld.methods._base import Method, Outputs, Shapes, Terms


class Combined(Method):
    """The terms of several methods, each times its method's weight, under ``"method.term"``.

    It needs what any of them needs, two views when one of them does, with the policy of the first that has one for the
    second view; its weight of cross-entropy is the largest of theirs. A method of weight 0 is left out altogether.

    Args:
        methods: by name.
        weights: by name, at least 0; 1 where none is given.

    Raises:
        InputError: without methods, for plain beside another, for an unknown name among the weights, for weights that
            are negative or all 0.
    """

    title = "several methods at once"

    def __init__(self, methods: Mapping[str, Method], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if "plain" in methods and len(methods) > 1:
            raise InputError(
                f"the methods are {list(methods)}; expected them without plain, which is training without a teacher "
                "and adds nothing to others"
            )
        weights = dict(weights or {})
        check_names("method among those combined:", weights, methods)
        check_options(non_negative={f"the weight of {name}": weight for name, weight in weights.items()})
        self.weights = {name: weights.get(name, 1.0) for name in methods if weights.get(name, 1.0) > 0}
        if not self.weights:
            raise InputError(
                f"the methods are {list(methods)} with weights {weights}; expected one with a positive weight"
            )
        self.methods = nn.ModuleDict({name: methods[name] for name in self.weights})
        self.needs = frozenset[str]().union(*(methods[name].needs for name in self.weights))
        self.views = max(methods[name].views for name in self.weights)
        policies = [methods[name].second_policy for name in self.weights]
        self.second_policy = next((policy for policy in policies if policy is not None), None)
        if "maps" in self.needs:
            read = {name: methods[name].preactivation for name in self.weights if "maps" in methods[name].needs}
            if len(set(read.values())) > 1:
                choosing = [name for name in read if "preactivation" in methods[name].option_names()]
                raise InputError(
                    f"the methods read maps before the activation of different networks: {read}; expected one in all, "
                    f"which {' and '.join(choosing)} can choose: preactivation=none"
                )
            self.preactivation = next(iter(read.values()))
        self.separate_views = any(methods[name].separate_views for name in self.weights)
        self.reuses_classifier = any(methods[name].reuses_classifier for name in self.weights)
        self.requires_global_batch = any(methods[name].requires_global_batch for name in self.weights)
        self.task_terms = self._named("task_terms")
        self.target_terms = self._named("target_terms")
        self.training_bank = any(methods[name].training_bank for name in self.weights)
        self.keeps = any(methods[name].keeps for name in self.weights)
        self.ce_weight = max(methods[name].ce_weight for name in self.weights)

    def _named(self, attribute: str) -> frozenset[str]:
        """What each method says of its own terms, with their names here."""
        return frozenset(f"{name}.{term}" for name, one in self.methods.items() for term in getattr(one, attribute))

    @property
    def ramps(self) -> bool:
        """Where one of them does."""
        return any(isinstance(method, Method) and method.ramps for method in self.methods.values())

    @property
    def counts_epochs(self) -> bool:
        """Where one of them does."""
        return any(isinstance(method, Method) and method.counts_epochs for method in self.methods.values())

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Prepare every method; see :meth:`Method.prepare`."""
        for method in self.methods.values():
            assert isinstance(method, Method)
            method.prepare(student, teacher, images, epochs, labels)

    def check_networks(self, student: Outputs, teacher: Outputs) -> None:
        """Let every method check; see :meth:`Method.check_networks`."""
        for method in self.methods.values():
            assert isinstance(method, Method)
            method.check_networks(student, teacher)

    def fill_bank(self, logits: Tensor, labels: Tensor, index: Tensor | None = None) -> None:
        """Fill the bank of every method that asks for it; see :meth:`Method.fill_bank`."""
        for method in self.methods.values():
            assert isinstance(method, Method)
            if method.training_bank:
                method.fill_bank(logits, labels, index)

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the weighted terms of all methods; see :meth:`Method.forward`."""
        terms = {}
        for name, method in self.methods.items():
            assert isinstance(method, Method)
            method.check_values = self.check_values
            for term, value in method(student, teacher, labels, progress, index).items():
                terms[f"{name}.{term}"] = self.weights[name] * value
        return terms

    def extra_repr(self) -> str:
        """The weights, for printing."""
        return f"weights={self.weights}"
