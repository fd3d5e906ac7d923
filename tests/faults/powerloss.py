"""What a power cut may leave of a save: the recorded system calls, replayed on a disk that forgets what was not synced.

The model takes POSIX at its word. The data of a file are durable once the file was synced after they were written; a
name in a directory (created, renamed, removed) once the directory was synced after that; everything else may survive or
not, each on its own.
"""

import codecs
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import saving
from tests.faults.syscalls import NEW, NEWER, Call, calls_of, prepare, watched_save
from tests.faults.zygote import Zygote

ROOT = 0
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
OPENED = re.compile(r"(?:^|, )(?:AT_FDCWD|\d+)<((?:[^>\\]|\\.)*)>|^\d+<((?:[^>\\]|\\.)*)>")
IGNORED = {"fchmod", "chmod", "fallocate"}


@dataclass(frozen=True, kw_only=True)
class PowerLossResult:
    """Power cuts before each call of a save and after its end.

    `states`: different contents of the disk that may be left; `verified`: those in which a verified checkpoint, the old
    or the new one, was found, and after the end of the save the new one.
    """

    cuts: int
    states: int
    verified: int
    syncs: int
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """Names of one directory that change at once: to an inode, or to nothing."""

    directory: int
    changes: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Bytes:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Size:
    inode: int
    length: int


@dataclass(frozen=True)
class Sync:
    inode: int


Effect = Names | Bytes | Size | Sync


class Disk:
    """Directories and files by inode."""

    def __init__(self) -> None:
        self.directories: dict[int, dict[str, int]] = {ROOT: {}}
        self.files: dict[int, bytearray] = {}

    def apply(self, effect: Effect) -> None:
        if isinstance(effect, Names):
            names = self.directories.setdefault(effect.directory, {})
            for name, inode in effect.changes:
                if inode is None:
                    names.pop(name, None)
                else:
                    names[name] = inode
        elif isinstance(effect, Bytes):
            content = self.files.setdefault(effect.inode, bytearray())
            content.extend(bytes(max(0, effect.offset - len(content))))
            content[effect.offset : effect.offset + len(effect.data)] = effect.data
        elif isinstance(effect, Size):
            content = self.files.setdefault(effect.inode, bytearray())
            del content[effect.length :]
            content.extend(bytes(effect.length - len(content)))

    def contents(self, directory: int = ROOT, prefix: str = "") -> Iterator[tuple[str, bytes | None]]:
        """Every path with its bytes, None for a directory."""
        for name, inode in sorted(self.directories.get(directory, {}).items()):
            if inode in self.directories:
                yield prefix + name, None
                yield from self.contents(inode, f"{prefix}{name}/")
            else:
                yield prefix + name, bytes(self.files.get(inode, b""))


class Recorder:
    """Turns the calls of a save into effects on inodes; knows the names as the running system sees them."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.seen = Disk()
        self.effects: list[Effect] = []
        self.next_inode = ROOT + 1
        self.offsets: dict[str, int] = {}
        self._read_existing(root, ROOT)
        self.initial = list(self.effects)
        self.effects.clear()

    def record(self, call: Call) -> list[Effect]:
        """The effects of one call."""
        self.effects.clear()
        if call.result >= 0 and call.call not in IGNORED:
            self._dispatch(call)
        return list(self.effects)

    def _dispatch(self, call: Call) -> None:
        strings = [_unescape(text) for text in STRING.findall(call.arguments)]
        opened = [a or b for a, b in OPENED.findall(call.arguments)]
        descriptor = call.arguments.split("<", 1)[0]
        name = call.call
        if name in ("openat", "open", "creat"):
            self._open(call, self._absolute(opened, strings[0]))
        elif name in ("write", "writev", "pwrite64"):
            if not self._ours(opened[0]):
                return
            data = b"".join(strings)
            assert len(data) == call.result, "the trace does not hold the whole of what was written"
            key = f"{call.thread} {descriptor}"
            if name == "pwrite64":
                offset = int(call.arguments.rsplit(", ", 1)[1])
            else:
                offset = self.offsets.get(key, 0)
                self.offsets[key] = offset + len(data)
            self._do(Bytes(self._inode(opened[0]), offset, data))
        elif name == "ftruncate":
            self._do(Size(self._inode(opened[0]), int(call.arguments.rsplit(", ", 1)[1])))
        elif name in ("fsync", "fdatasync"):
            if self._ours(opened[0]):
                self._do(Sync(self._inode(opened[0])))
        elif name in ("mkdir", "mkdirat"):
            path = self._absolute(opened, strings[0])
            self.seen.directories[self.next_inode] = {}
            self._name(path, self._new_inode())
        elif name in ("unlink", "unlinkat", "rmdir"):
            self._name(self._absolute(opened, strings[0]), None)
        elif name in ("rename", "renameat", "renameat2"):
            self._rename(*(self._absolute(opened[at : at + 1], text) for at, text in enumerate(strings)))
        else:
            raise NotImplementedError(f"the model of a power cut does not know {name}({call.arguments[:100]})")

    def _open(self, call: Call, path: str) -> None:
        if not self._ours(path) or not call.changes:
            return
        self.offsets[f"{call.thread} {call.result}"] = 0
        directory, _, name = path.rpartition("/")
        if name not in self.seen.directories[self._inode(directory)]:
            inode = self._new_inode()
            self._name(path, inode)
            self.seen.files[inode] = bytearray()
        elif "O_TRUNC" in call.arguments:
            self._do(Size(self._inode(path), 0))

    def _rename(self, old: str, new: str) -> None:
        inode = self._inode(old)
        (old_directory, _, old_name), (new_directory, _, new_name) = old.rpartition("/"), new.rpartition("/")
        if old_directory == new_directory:
            self._do(Names(self._inode(old_directory), ((old_name, None), (new_name, inode))))
        else:
            self._name(new, inode)
            self._name(old, None)

    def _name(self, path: str, inode: int | None) -> None:
        directory, _, name = path.rpartition("/")
        self._do(Names(self._inode(directory), ((name, inode),)))

    def _do(self, effect: Effect) -> None:
        self.seen.apply(effect)
        self.effects.append(effect)

    def _new_inode(self) -> int:
        self.next_inode += 1
        return self.next_inode - 1

    def _ours(self, path: str) -> bool:
        return path == self.root or path.startswith(f"{self.root}/")

    def _inode(self, path: str) -> int:
        assert self._ours(path), f"{path} lies outside the checkpoints"
        inode = ROOT
        for part in path.removeprefix(self.root).strip("/").split("/"):
            inode = self.seen.directories[inode][part] if part else inode
        return inode

    def _absolute(self, opened: Sequence[str], path: bytes | str) -> str:
        text = path.decode() if isinstance(path, bytes) else path
        return text if text.startswith("/") else f"{opened[0]}/{text}"

    def _read_existing(self, folder: Path, inode: int) -> None:
        for path in sorted(folder.iterdir()):
            child = self._new_inode()
            self._do(Names(inode, ((path.name, child),)))
            if path.is_dir():
                self.seen.directories[child] = {}
                self._read_existing(path, child)
            else:
                self._do(Bytes(child, 0, path.read_bytes()))


def measure_power_loss(
    zygote: Zygote,
    folder: Path,
    *,
    first: bool = False,
    mode: str = saving.WAITED,
    hooks: Sequence[str] = (),
    cuts: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> PowerLossResult:
    """Cut the power before each call of a save, or before `cuts` of them, and look for a verified checkpoint.

    With `first` it is the first save of a run, whose folder is there, but none for checkpoints: until it has returned,
    there need be none.
    """
    root = folder / "recorded"
    if first:
        root.mkdir(parents=True)
    else:
        prepare(root)
    inside = "checkpoints" if first else "."
    either: set[int | None] = {None, NEW} if first else {NEWER, NEW}
    recorder = Recorder(root)
    directories = {inode: dict[str, int]() for inode in recorder.seen.directories}
    options = ["-y", "-s", str(1 << 24)]
    done = watched_save(zygote, root / inside, NEW, folder / "gate", options, mode=mode, hooks=hooks)
    assert done.code == 0, done.message
    steps = [effects for call in calls_of(done.trace) if (effects := recorder.record(call))]
    directories |= {inode: {} for inode in recorder.seen.directories}
    assert _same_as(recorder.seen, root), "the model has understood another sequence of calls than has happened"

    states: dict[frozenset[tuple[str, bytes | None]], str] = {}
    prefixes = range(len(steps) + 1)
    chosen = prefixes if cuts is None else sorted({len(steps) * at // max(1, cuts - 1) for at in range(cuts)})
    failures: list[str] = []
    verified = 0
    for count in chosen:
        happened = [effect for effects in steps[:count] for effect in effects]
        ended = count == len(steps)
        for description, effects in _possible(happened):
            disk = Disk()
            disk.directories = {inode: {} for inode in directories}
            for effect in (*recorder.initial, *effects):
                disk.apply(effect)
            state = frozenset(disk.contents())
            if state in states and not ended:
                continue
            states[state] = description
            problem = _look(disk, folder / "disk", inside, {NEW} if ended else either)
            verified += problem is None
            if problem is not None:
                states[state] = problem
                failures.append(f"power cut after {count} of {len(steps)} calls, {description}: {problem}")
        say(f"power cut {count}/{len(steps)}: {len(states)} states so far, {len(failures)} without a checkpoint")
    return PowerLossResult(
        cuts=len(chosen),
        states=verified + len(failures),
        verified=verified,
        syncs=sum(isinstance(effect, Sync) for effects in steps for effect in effects),
        failures=tuple(failures),
    )


def _possible(happened: Sequence[Effect]) -> Iterator[tuple[str, list[Effect]]]:
    """The worst of what may be left of these effects, each a list of those that survive."""
    durable = set()
    for at, effect in enumerate(happened):
        if isinstance(effect, Sync):
            for earlier, other in enumerate(happened[:at]):
                if isinstance(other, Sync):
                    continue
                if (other.directory if isinstance(other, Names) else other.inode) == effect.inode:
                    durable.add(earlier)
    open_ended = [at for at, effect in enumerate(happened) if at not in durable and not isinstance(effect, Sync)]
    names = [at for at in open_ended if isinstance(happened[at], Names)]
    data = [at for at in open_ended if isinstance(happened[at], Bytes | Size)]
    sizes = [at for at in open_ended if isinstance(happened[at], Size)]

    def kept(more: Iterable[int]) -> list[Effect]:
        return [happened[at] for at in sorted(durable | set(more))]

    yield "nothing that was not synced survives", kept([])
    yield "everything survives", kept(open_ended)
    yield "all names survive, no data", kept(names)
    yield "all names and sizes survive, no data", kept([*names, *sizes])
    yield "all data survive, no names", kept(data)
    for number, at in enumerate(names):
        what = happened[at]
        yield f"only {what} survives", kept([at])
        yield f"everything but {what} survives", kept(other for other in open_ended if other != at)
        yield f"the names up to {what} survive, no data", kept(names[: number + 1])


def _look(disk: Disk, place: Path, inside: str, expected: set[int | None]) -> str | None:
    """What is wrong with these contents; None when a verified checkpoint of an expected step is found there."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for path, content in disk.contents():
        if content is None:
            (place / path).mkdir()
        else:
            (place / path).write_bytes(content)
    try:
        step = saving.found(place / inside)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None if step in expected else f"found the checkpoint of step {step}"


def _same_as(disk: Disk, root: Path) -> bool:
    there = {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }
    return dict(disk.contents()) == there


def _unescape(text: str) -> bytes:
    """The bytes of a C string as strace prints it."""
    decoded: bytes = codecs.escape_decode(text.encode())[0]  # undocumented, and exact
    return decoded
