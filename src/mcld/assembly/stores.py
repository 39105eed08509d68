"""Where the teacher's logits are kept: what the settings ask for, what the method and the disk allow."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from mcld.configs.schema import Distill
from mcld.data import DataSet
from mcld.data.cache import cache_dir
from mcld.data.views import APPROXIMATION
from mcld.display import Display
from mcld.errors import InputError
from mcld.files import home_path
from mcld.methods import Method
from mcld.models import Network
from mcld.teacher import Header, LiveTeacher, LogitStore, StoredTeacher

FEATURES = {"pooled": "pooled features", "maps": "feature maps", "classifier": "classifier"}


@dataclass(frozen=True)
class Place:
    """A store that may or may not exist yet.

    Attributes:
        folder: of the store.
        header: of the store.
        required: whether a store that cannot be used is an error.
        automatic: whether we named the folder, and may make it anew.
        room: whether the disk has room for it.
    """

    folder: Path
    header: Header
    required: bool
    automatic: bool = False
    room: bool = True

    def needed(self) -> int:
        """Bytes that it may grow by."""
        try:  # the files are sparse
            taken = sum(file.stat().st_blocks * 512 for file in self.folder.iterdir())
        except OSError:
            taken = 0
        return max(0, self.header.size - taken)

    def free(self) -> int:
        """Bytes that the disk has left."""
        folder = self.folder.absolute()
        while not folder.is_dir():
            folder = folder.parent
        return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Places:
    """The stores of a run: the training views' and the validation images'; None where none could serve."""

    training: Place | None
    validation: Place | None


def choose_stores(
    settings: Distill, teacher: Network, data: DataSet, method: Method, display: Display, *, required: bool = False
) -> Places:
    """Decide where the teacher's logits go, and say so, or why it runs live. Nothing is written.

    Raises:
        InputError: when a folder is asked for that cannot be used for this, or any with ``required``.
    """
    if settings.teacher.store == "off":
        return Places(None, None)
    validation = place(settings, teacher, data, "validation", required=required)
    if not method.needs:  # the teacher is only asked how far they agree
        return Places(None, _with_room(validation, display))
    reason = why_live(settings, data, method)
    if reason and validation.required:
        raise InputError(f"teacher.store={settings.teacher.store}: {reason}")
    if reason:
        display.line(f"the teacher runs live: {reason}")
        return Places(None, _with_room(validation, display))
    wanted = place(settings, teacher, data, "training", required=required)
    training = _with_room(wanted, display, beside=validation.needed())
    if training.room:
        display.line(describe_place(training))
    return Places(training, _with_room(validation, display))


def why_live(settings: Distill, data: DataSet, method: Method) -> str | None:
    """Why no store can serve a run; None when one can."""
    if not method.needs:
        return f"method={settings.method.name} asks no teacher"
    if extra := [FEATURES[name] for name in sorted(method.needs - {"logits"})]:
        return f"method={settings.method.name} reads the teacher's {', '.join(extra)}, and a store holds logits only"
    if data.train.views.count is None:
        return (
            f"the views of data={settings.data.name} are endless; teacher.views=8 would store 8 views of each image, "
            "an approximation"
        )
    return None


def place(settings: Distill, teacher: Network, data: DataSet, kind: str, *, required: bool = False) -> Place:
    """The store for ``training`` or ``validation``.

    Validation logits are few, so they are kept in 32 bits: the teacher's accuracy is the same as without a store.
    """
    split = data.train if kind == "training" else data.val
    given = settings.teacher
    storage = "fp32" if kind == "validation" else f"fp{given.store_precision}"
    header = Header.of(teacher, data.info.name, kind, split, storage=storage, precision=settings.precision)
    if given.store == "auto":
        name = f"{data.info.name}-{kind}-{teacher.spec.architecture.replace('/', '-')}-{header.key()}"
        return Place(cache_dir() / "logits" / name, header, required, automatic=True)
    return Place(home_path(given.store) / kind, header, required=True)


def describe_place(place: Place) -> str:
    """A line about a store's size, and the room for it."""
    header = place.header
    return (
        f"teacher's logits: stored in {place.folder}, {header.storage}, {header.views_per_image} views of each image"
        f"{' (an approximation of all)' if APPROXIMATION in header.views else ''}: "
        f"at most {gigabytes(header.size)}, {gigabytes(place.needed())} more than now; "
        f"the disk has {gigabytes(place.free())} left"
    )


def with_store(live: LiveTeacher, place: Place | None, display: Display) -> LiveTeacher | StoredTeacher:
    """The teacher with its store, where there is one.

    Where there should be one and it is out of reach, the logits are rounded as the store's are: a run that was begun
    with it, or that goes on with it, is the same run.

    Raises:
        InputError: when the store was asked for and cannot be used.
    """
    if place is None:
        return live
    if not place.room:
        return live.rounding(place.header.storage)
    try:
        store = open_store(place, display)
    except InputError as error:
        if place.required:
            raise
        display.line(f"warning: the teacher runs live: {error}", style="yellow")
        return live.rounding(place.header.storage)
    return StoredTeacher(live, store, lambda text: display.line(text, style="yellow"))


def open_store(place: Place, display: Display) -> LogitStore:
    """The store at a place, made if need be; one of our own that is damaged is made anew.

    Raises:
        InputError: when it cannot be used.
    """
    tell = lambda text: display.line(text, style="yellow")  # noqa: E731
    return LogitStore(place.folder, place.header, rebuild=place.automatic, tell=tell)


def gigabytes(size: int) -> str:
    """A number of bytes for people."""
    unit, name = next(((10**power, name) for power, name in ((9, "GB"), (6, "MB")) if size >= 10**power), (1000, "kB"))
    return f"{size / unit:.3g} {name}"


def _with_room(place: Place, display: Display, beside: int = 0) -> Place:
    """The place, with whether the disk has room for it and ``beside`` more bytes."""
    needed, free = place.needed(), place.free()
    if needed + beside <= free:
        return place
    words = (
        f"the {place.header.split} logits can take {gigabytes(needed)} more in {place.folder}, and the disk has "
        f"{gigabytes(free)} left"
    )
    if place.required:
        raise InputError(f"{words}; expected a folder on another disk, fewer teacher.views, or teacher.store=off")
    display.line(f"the teacher runs live: {words}")
    return dataclasses.replace(place, room=False)
