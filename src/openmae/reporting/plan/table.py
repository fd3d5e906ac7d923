"""A plan as people see it."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from openmae.reporter import plain
from openmae.reporting.plan.result import Here, MemoryParts, OnGpu, PlanResult

LIMITS = {
    "data": "waiting for images: more --workers, or `openmae pack`",
    "compute": "computing",
    "memory": "memory: the images are taken in more parts than the recipe says",
}


def show_plan(plan: PlanResult) -> Iterator[str | RenderableType]:
    """The whole plan, warnings last, where they are read."""
    yield _summary(plan)
    yield _memory(plan)
    if plan["here"] is not None:
        yield _here(plan["here"])
    yield _gpus(plan)
    if plan["proposals"]:
        yield _epochs(plan)
        yield _published(plan)
    yield from (Text(f"warning: {plain(one['message'])}", style="yellow") for one in plan["cautions"])


def duration(hours: float) -> str:
    """A time in the unit that reads best.

    >>> [duration(hours) for hours in (0.005, 0.5, 3.14159, 30, 200)]
    ['18 s', '30 min', '3.1 h', '30 h', '8.3 days']
    """
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    if hours < 100:
        return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"
    return f"{hours / 24:,.1f} days"


def size(count: float) -> str:
    """A number of bytes.

    >>> size(48_000_000), size(2_543_000_000)
    ('48 MB', '2.5 GB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def number(count: float) -> str:
    """A large number, short.

    >>> number(1_024_933_600), number(80_000), number(94_000_000), number(312)
    ('1.02 billion', '80,000', '94 million', '312')
    """
    if count >= 1e9:
        return f"{count / 1e9:,.2f} billion"
    return f"{count / 1e6:,.0f} million" if count >= 1e7 else f"{count:,.0f}"


def _operations(count: float) -> str:
    for unit, factor in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e6:,.1f} MFLOP"


def _epochs_of(count: float) -> str:
    return f"{count:,g} epoch{'s' * (count != 1)}"


def _plain_table(title: str) -> Table:
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def _row(table: Table, name: str, value: str) -> None:
    table.add_row(Text(name), Text(value))


def _summary(plan: PlanResult) -> Table:
    network, run, disk = plan["network"], plan["run"], plan["disk"]
    table = _plain_table(f"{plain(plan['recipe'])}: {plain(plan['backbone'])}")
    _row(
        table,
        "parameters",
        f"{network['parameters'] / 1e6:.2f} M, of which the encoder {network['encoder_parameters'] / 1e6:.2f} M",
    )
    _row(
        table,
        "an image",
        f"{' x '.join(map(str, plan['image_size']))} pixels, {network['patches']} patches, "
        f"{network['visible_patches']} visible",
    )
    _row(
        table,
        "computing an image",
        f"{_operations(network['training_flop'])} forward and backward (forward: encoder "
        f"{_operations(network['encoder_flop'])}, decoder {_operations(network['decoder_flop'])})",
    )
    if run is None:
        _row(table, "the run", "unknown length: give --data, or --images and their number")
    else:
        assumed = " (ImageNet-1k is assumed; give --data or --images)" if run["images_assumed"] else ""
        _row(table, "images", f"{run['images']:,}{assumed}")
        _row(
            table,
            "the run",
            f"{_epochs_of(run['epochs'])} = {number(run['samples'])} samples in {run['steps']:,} steps of "
            f"{run['batch_size']:,}; {_operations(run['flop'])}",
        )
        split = f"{run['images_at_once']:,} images at once"
        if run["devices"] > 1:
            split += f" on each of {run['devices']} devices"
        if run["accumulate"] > 1:
            split += f", {run['accumulate']} times a step"
        _row(table, "a step", f"{split}; peak rate {run['lr']:.3g} after {_epochs_of(run['warmup_epochs'])} of warm-up")
    _row(
        table,
        "disk",
        f"up to {size(disk['most'])}: {disk['kept']} checkpoints of {size(disk['checkpoint'])} and the next one, "
        f"encoder {size(disk['encoder'])}",
    )
    return table


def _memory(plan: PlanResult) -> Table:
    """The memory of this machine, and of a GPU where this is another precision."""
    table = Table(title=Text("Memory of each process"), title_justify="left")
    rows = {"here": plan["memory"]}
    if plan["memory_on_gpu"]["precision"] != plan["memory"]["precision"]:
        rows["on a GPU"] = plan["memory_on_gpu"]
    columns = {f"{where}, {memory['precision']}": _parts(memory) for where, memory in rows.items()}
    table.add_column("")
    for heading in columns:
        table.add_column(Text(heading), justify="right")
    for part in next(iter(columns.values())):
        if any(values[part] for values in columns.values()):
            cells = [size(values[part]) if values[part] else "" for values in columns.values()]
            table.add_row(Text(part), *cells, end_section=part == "reserved")
    return table


def _parts(memory: MemoryParts) -> dict[str, int]:
    return {
        "weights": memory["weights"],
        "gradients": memory["gradients"],
        "optimizer": memory["optimizer"],
        "average": memory["average"],
        "exchange": memory["exchange"],
        "copies": memory["copies"],
        f"{memory['images_at_once']:,} image{'s' * (memory['images_at_once'] != 1)}": memory["images"],
        "reserved": memory["reserved"],
        "together": memory["total"],
        "free": memory["available"] or 0,
    }


def _here(here: Here) -> Table:
    device = here["device"] if here["devices"] == 1 else f"{here['devices']} x {here['device']}"
    device += f", {here['threads']} thread{'s' * (here['threads'] != 1)}" if here["device"] == "CPU" else ""
    table = _plain_table(f"On this machine ({plain(device)}), by a trial of {here['trial_seconds']:.0f} s")
    held = (
        f" ({here['first_epoch_images_per_second']:,.0f} in the first epoch)" if here["images_held_in_memory"] else ""
    )
    _row(table, "images/s", f"{here['images_per_second']:,.0f}{held}")
    cost = "" if here["cost"] is None else f", cost {here['cost']:,.2f}"
    _row(table, "the run takes", f"{duration(here['hours'])}{cost}")
    _row(table, "limited by", LIMITS[here["limited_by"]])
    _row(
        table,
        "images",
        f"{here['waiting_for_data']:.0%} of the time is spent waiting for them; alone, {here['workers']} "
        f"worker{'s' * (here['workers'] != 1)} give{'s' * (here['workers'] == 1)} "
        f"{here['loader_images_per_second']:,.0f} a second",
    )
    return table


def _gpus(plan: PlanResult) -> Table:
    devices = plan["gpus"][0]["devices"]
    priced = any(one["cost"] is not None for one in plan["gpus"])
    table = Table(
        title=Text(f"On {'a GPU' if devices == 1 else f'{devices} GPUs'}, computed"),
        title_justify="left",
        caption=Text(
            f"assumed: {plan['share']:.0%} of the data sheet's dense bf16, 10 ms a pass at least, images that keep up"
        ),
        caption_justify="left",
    )
    table.add_column("GPU", no_wrap=True)
    for heading in ("peak TFLOP/s", "images/s", "hours", *(["cost"] if priced else []), "at once", "--accumulate"):
        table.add_column(heading, justify="right")
    for one in plan["gpus"]:
        table.add_row(*_gpu_row(one, priced=priced))
    return table


def _gpu_row(one: OnGpu, *, priced: bool) -> list[str]:
    cost = ["" if one["cost"] is None else f"{one['cost']:,.2f}"] if priced else []
    fits = (
        ["too small", ""] if one["images_at_once"] is None else [f"{one['images_at_once']:,}", str(one["accumulate"])]
    )
    return [
        one["name"],
        f"{one['peak_flops'] / 1e12:,.0f}",
        f"{one['images_per_second']:,.0f}",
        "" if one["hours"] is None else duration(one["hours"]),
        *cost,
        *fits,
    ]


def _epochs(plan: PlanResult) -> Table:
    """How many epochs make sense, and what follows from them."""
    run, here = plan["run"], plan["here"]
    assert run is not None
    table = Table(title=Text(f"How many epochs for {run['images']:,} images?"), title_justify="left")
    table.add_column("")
    for heading in ("--epochs", "samples", "--batch-size", "peak rate", "steps", *(["here"] if here else [])):
        table.add_column(heading, justify="right")
    rate = None if here is None else here["images_per_second"]

    def add(name: str, epochs: int, samples: int, batch: int, lr: float, steps: int) -> None:
        hours = [] if rate is None else [duration(samples / rate / 3600)]
        table.add_row(name, f"{epochs:,}", number(samples), f"{batch:,}", f"{lr:.3g}", f"{steps:,}", *hours)

    add("this run", run["epochs"], run["samples"], run["batch_size"], run["lr"], run["steps"])
    for one in plan["proposals"]:
        add(one["like"], one["epochs"], one["samples"], one["batch_size"], one["lr"], one["steps"])
    return table


def _published(plan: PlanResult) -> Table:
    table = Table(title=Text("Published runs by the samples that they saw"), title_justify="left")
    table.add_column("")
    for heading in ("epochs", "samples", "this run sees"):
        table.add_column(heading, justify="right")
    table.add_column("result, %")
    for one in plan["published"]:
        share = f"{100 * one['share']:,.0f} %" if one["share"] > 0.1 else f"{100 * one['share']:.2g} %"
        table.add_row(Text(one["name"]), f"{one['epochs']:,}", number(one["samples"]), share, Text(one["result"]))
    return table
