"""What goes by a name: methods, models, data sets, loggers, export formats; ours, and those of other packages.

Each kind has one :class:`Registry`, which is filled in three ways: by the files of this package, by a decorator
(:func:`register_method` and its likes), and by the entry points of installed packages. Importing this imports nothing
else: what has a name is imported when it is asked for.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mcld.errors import InputError, unknown_name

if TYPE_CHECKING:
    from mcld.data import DataEntry
    from mcld.exports import Export
    from mcld.loggers import Logger
    from mcld.methods import Method
    from mcld.models import ModelEntry

T = TypeVar("T")
ClassT = TypeVar("ClassT", bound=type[Any])
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """What is registered under a name, and the class or function that was decorated."""

    item: T
    source: Any


class Registry(Generic[T]):
    """Everything of one kind, by name.

    A file of ours is found by its own name without being imported. An entry point of another package is one of two:
    ``NAME = module:object`` is the object of that name, imported when it is asked for; ``ANY = module`` is a module
    that registers what it has when it is imported, which happens when a name is not known otherwise.

    Args:
        kind: in words, such as ``"method"``.
        group: of the entry points, such as ``"mcld.methods"``.
        home: the package of our own files.
        named_by_file: whether each file of ours is one entry with the name of the file; else a file has several.
        hint: where to look for more, for messages.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        home: str,
        *,
        named_by_file: bool = True,
        hint: str = "",
    ) -> None:
        self.kind, self.group, self.home, self.hint = kind, group, home, hint
        self.named_by_file = named_by_file
        self._entries: dict[str, _Entry[T]] = {}
        self.adopt: Callable[[str, Any], object] | None = None  # registers what an entry point names undecorated

    def add(self, name: str, item: T, source: Any = None) -> None:
        """Register an item.

        Args:
            name: letters, digits and ``_ - .``.
            item: of this registry's kind.
            source: the class or function that it was made from, to say where it is; by default the item.

        Raises:
            InputError: when the name is another's, naming both, or is no name.
        """
        source = item if source is None else source
        if not isinstance(name, str) or not name or not all(c.isalnum() or c in "_-." for c in name):
            raise InputError(f"a {self.kind} cannot be called {name!r}; expected letters, digits and _ - .")
        if not self.named_by_file and _where(source).split(".")[0] != "mcld":
            self._import_own()  # ours come first, so that whoever takes a name of theirs is told
        present = self._entries.get(name)
        if present is not None and _where(present.source) != _where(source):  # else it is the same, defined anew
            raise self._clash(name, _place(present.source), _place(source))
        module = _where(source).partition(":")[0]
        if name in self._lazy_files() and module != _module(self.home, name):
            raise self._clash(name, f"mcld ({_module(self.home, name)})", _place(source))
        self._entries[name] = _Entry(item, source)

    def names(self) -> list[str]:
        """All names, sorted. What is found by its name alone is not imported; what cannot be imported is left out."""
        self._import_modules()
        return sorted({*self._entries, *self._lazy_files(), *(point.name for point in self._points() if point.attr)})

    def get(self, name: str) -> T:
        """The item of a name, imported now if it was not.

        Raises:
            InputError: for an unknown name, with the nearest; for a name that two packages claim; for one whose package
                cannot be imported.
        """
        found = self.find(name)
        if found is None:
            raise self.unknown(name)
        return found

    def find(self, name: str) -> T | None:
        """As :meth:`get`, with None for an unknown name."""
        if name in self._lazy_files() or any(point.name == name for point in self._points() if point.attr):
            return self._load(name)
        if name not in self._entries:
            self._import_modules()
        return self._entries[name].item if name in self._entries else None

    def unknown(self, name: object) -> InputError:
        """The error for a name that is not here; it also says which packages could not be asked."""
        broken = self._import_modules()
        error = unknown_name(self.kind, name, self.names(), more=self.hint, most=3 if self.hint else 1)
        return InputError("; ".join([str(error), *broken])) if broken else error

    def items(self) -> dict[str, T]:
        """Everything, by name, imported; what cannot be imported is left out (:meth:`broken`).

        Sorted by name; where a file has several entries, in their order.
        """
        found = {name: item for name, item in self._all() if not isinstance(item, InputError)}
        return found if self.named_by_file else {name: found[name] for name in self._entries if name in found}

    def broken(self) -> list[str]:
        """One line for each package whose part cannot be imported, or whose name is another's."""
        lines = [*self._import_modules(), *(str(item) for _, item in self._all() if isinstance(item, InputError))]
        return list(dict.fromkeys(lines))

    def origin(self, name: str) -> str:
        """Where an item is from: ``mcld``, ``the package NAME VERSION``, or a file or module."""
        package = self.package(name)
        if package is not None:
            return "the package {} {}".format(*package)
        return _place(self._entries[name].source) if name in self.registered() else "mcld"

    def package(self, name: str) -> tuple[str, str] | None:
        """The name and version of the installed package that an item is from; None for ours, and for no package's."""
        module = _where(self._entries[name].source).partition(":")[0] if name in self._entries else ""
        for point in self._points():
            if point.dist is not None and (
                point.name == name if point.attr else f"{module}.".startswith(f"{point.module}.")
            ):
                return point.dist.name, point.dist.version
        return None

    def registered(self) -> list[str]:
        """The names that others have registered so far, and not we."""
        return [name for name, entry in self._entries.items() if _where(entry.source).split(".")[0] != "mcld"]

    def remove(self, name: str) -> None:
        """Forget a name."""
        self._entries.pop(name, None)

    def _all(self) -> Iterator[tuple[str, T | InputError]]:
        for name in self.names():
            try:
                yield name, self.get(name)
            except InputError as error:
                yield name, error

    def _clash(self, name: str, one: str, other: str) -> InputError:
        return InputError(f"two {self.kind}s are called {name!r}: of {one} and of {other}; expected different names")

    def _load(self, name: str) -> T:
        """The item of a file of ours or of an entry point that has the name."""
        points = [point for point in self._points() if point.name == name and point.attr]
        claims = [f"mcld ({_module(self.home, name)})"] if name in self._lazy_files() else []
        claims += [_package(point) for point in points]
        if len(claims) > 1:
            raise self._clash(name, claims[0], claims[1])
        if not points:
            if name not in self._entries:
                importlib.import_module(_module(self.home, name))
            if name not in self._entries:
                raise TypeError(f"{_module(self.home, name)} registers no {self.kind} of that name")
            return self._entries[name].item
        source = self._import(points[0])
        present = self._entries.get(name)
        if present is None:  # the entry point names something that no decorator has registered
            assert self.adopt is not None
            try:
                self.adopt(name, source)
            except InputError as error:
                raise InputError(f"{_package(points[0])}: {error}") from error
        elif present.source is not source:
            raise self._clash(name, _package(points[0]), _place(present.source))
        return self._entries[name].item

    def _import(self, point: importlib.metadata.EntryPoint) -> Any:
        try:
            return point.load()
        except (Exception, SystemExit) as error:  # whatever another's code does when it is imported
            reason = " ".join(str(error).split()) or "no reason given"
            raise InputError(
                f"the {self.kind} {point.name!r} of {_package(point)} cannot be imported "
                f"({type(error).__name__}: {reason}); mend or uninstall that package"
            ) from error

    def _import_modules(self) -> list[str]:
        """Import what may register any names; one line for each that cannot be."""
        if not self.named_by_file:
            self._import_own()
        lines = []
        for point in self._points():
            if not point.attr:
                try:
                    self._import(point)
                except InputError as error:
                    lines.append(str(error))
        return lines

    def _import_own(self) -> None:
        for name in sorted(_files(self.home)):
            importlib.import_module(f"{self.home}.{name}")

    def _points(self) -> tuple[importlib.metadata.EntryPoint, ...]:
        return _entry_points(self.group, tuple(sys.path))

    def _lazy_files(self) -> frozenset[str]:
        return frozenset(file.replace("_", "-") for file in _files(self.home)) if self.named_by_file else frozenset()


@functools.cache
def _files(home: str) -> frozenset[str]:
    """The modules of a package, without importing it."""
    spec = importlib.util.find_spec(home)
    places = spec.submodule_search_locations if spec is not None else None
    return frozenset(found.name for found in pkgutil.iter_modules(places) if not found.name.startswith("_"))


def _module(home: str, name: str) -> str:
    """The file that holds what is called so: ``onnx-int8`` is in ``onnx_int8.py``."""
    return f"{home}.{name.replace('-', '_')}"


@functools.lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[importlib.metadata.EntryPoint, ...]:  # noqa: ARG001
    """The entry points of a group; looked up again when the path has changed."""
    return tuple(importlib.metadata.entry_points(group=group))


def _package(point: importlib.metadata.EntryPoint) -> str:
    return f"the package {point.dist.name} {point.dist.version}" if point.dist is not None else f"{point.value}"


def _where(source: Any) -> str:
    """``module:qualified.name`` of a class or function; the same again when a cell of a notebook has run twice."""
    source = source if hasattr(source, "__qualname__") else getattr(source, "func", source)  # of a partial
    return f"{getattr(source, '__module__', '?')}:{getattr(source, '__qualname__', repr(source))}"


def _place(source: Any) -> str:
    """Where something is, in words."""
    module, _, name = _where(source).partition(":")
    if module.split(".")[0] == "mcld":
        return f"mcld ({module})"
    file = getattr(sys.modules.get(module), "__file__", None)
    return f"{module}.{name} ({file})" if file else f"{module}.{name}"


METHODS: "Registry[type[Method]]" = Registry("method", "mcld.methods", "mcld.methods")
MODELS: "Registry[ModelEntry]" = Registry(
    "model",
    "mcld.models",
    "mcld.models",
    named_by_file=False,
    hint="see `mcld models`, or use timm/NAME or torchvision/NAME",
)


LOGGERS: "Registry[type[Logger]]" = Registry("logger", "mcld.loggers", "mcld.loggers")
DATA: "Registry[DataEntry]" = Registry("data set", "mcld.data", "mcld.data", named_by_file=False)
EXPORTS: "Registry[type[Export]]" = Registry("export format", "mcld.exports", "mcld.exports")


def register_logger(name: str) -> Callable[[ClassT], ClassT]:
    """Register a class that takes a run's numbers: ``@mcld.register_logger("mine")``.

    Raises:
        InputError: for a name that is taken, naming both, or for what is no subclass of ``mcld.Logger``.
    """

    def register(cls: ClassT) -> ClassT:
        from mcld.loggers import Logger

        if not (isinstance(cls, type) and issubclass(cls, Logger)):
            raise InputError(f"the logger {name!r} is {cls!r}; expected a subclass of mcld.Logger")
        LOGGERS.add(name, cls)
        cls.name = name
        return cls

    return register


def register_export(name: str) -> Callable[[ClassT], ClassT]:
    """Register a class that writes trained networks for others: ``@mcld.register_export("mine")``.

    Raises:
        InputError: for a name that is taken, naming both, or for what is no subclass of ``mcld.Export``.
    """

    def register(cls: ClassT) -> ClassT:
        from mcld.exports import Export

        if not (isinstance(cls, type) and issubclass(cls, Export)):
            raise InputError(f"the export format {name!r} is {cls!r}; expected a subclass of mcld.Export")
        EXPORTS.add(name, cls)
        cls.name = name
        return cls

    return register


def register_method(name: str) -> Callable[[ClassT], ClassT]:
    """Register a class as a distillation method: ``@mcld.register_method("mine")``.

    Raises:
        InputError: for a name that is taken, naming both, or for what is no subclass of ``mcld.Method``.
    """

    def register(cls: ClassT) -> ClassT:
        from mcld.methods._base import Method

        if not (isinstance(cls, type) and issubclass(cls, Method)):
            raise InputError(f"the method {name!r} is {cls!r}; expected a subclass of mcld.Method")
        METHODS.add(name, cls)
        cls.name = name
        return cls

    return register


def register_model(
    name: str,
    *,
    aliases: Iterable[str] = (),
    family: str | None = None,
    lr: float = 0.05,
    input_size: int = 32,
    min_size: int = 1,
) -> Callable[[FunctionT], FunctionT]:
    """Register what makes a classifier: ``build(num_classes, in_channels, **options)``, a function or a class.

    Its keyword-only parameters are the model's options.

    Args:
        name: of the model.
        aliases: other names for it.
        family: of architectures; by default the file that it is in.
        lr: the learning rate that suits it, for SGD with batches of 64.
        input_size: the side in pixels that it was designed for.
        min_size: the smallest side that it takes.

    Raises:
        InputError: for a name that is taken, naming both, or for what cannot be called so.
    """

    def register(build: FunctionT) -> FunctionT:
        from mcld.models._registry import ModelEntry

        if not callable(build):
            raise InputError(f"the model {name!r} is {build!r}; expected build(num_classes, in_channels, **options)")
        module = _where(build).partition(":")[0]
        others = tuple(aliases)
        entry = ModelEntry(name, family or module.rpartition(".")[2], build, others, lr, input_size, min_size)
        for one in (name, *others):
            MODELS.add(one, entry, build)
        return build

    return register


def register_data(name: str, title: str, *, needs: str = "your path") -> Callable[[FunctionT], FunctionT]:
    """Register what reads a data set: ``load(options) -> mcld.data.DataSet``.

    The annotation of ``options`` says what they are: a dataclass that derives from ``mcld.data.DataOptions``.

    Args:
        name: of the data set.
        title: one line on what it is.
        needs: where the files come from: ``packaged``, ``downloaded`` or ``your path``.

    Raises:
        InputError: for a name that is taken, naming both, or for what cannot be called so.
    """

    def register(load: FunctionT) -> FunctionT:
        from mcld.data._registry import DataEntry
        from mcld.data.options import DataOptions

        hints = typing.get_type_hints(load) if callable(load) else {}
        options = next((kind for key, kind in hints.items() if key != "return"), None)
        if not (isinstance(options, type) and issubclass(options, DataOptions) and dataclasses.is_dataclass(options)):
            raise InputError(
                f"the data set {name!r} is {load!r}; expected load(options: OPTIONS) with a dataclass OPTIONS that "
                "derives from mcld.data.DataOptions"
            )
        DATA.add(name, DataEntry(name, title, needs, options, load), load)
        return load

    return register


METHODS.adopt = lambda name, source: register_method(name)(source)
LOGGERS.adopt = lambda name, source: register_logger(name)(source)
MODELS.adopt = lambda name, source: register_model(name)(source)
EXPORTS.adopt = lambda name, source: register_export(name)(source)
DATA.adopt = lambda name, source: register_data(name, (source.__doc__ or "").partition("\n")[0])(source)

REGISTRIES: dict[str, Registry[Any]] = {
    "method": METHODS,
    "model": MODELS,
    "data": DATA,
    "logger": LOGGERS,
    "export": EXPORTS,
}
"""All of them, by a word for what they hold."""
