"""A plan as people see it."""

import shlex
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
    yield _memory(plan["memory"])
    if plan["here"] is not None:
        yield _here(plan["here"])
    yield _gpus(plan)
    if plan["proposals"]:
        yield _epochs(plan)
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
            f"{run['epochs']:,} epochs = {number(run['samples'])} samples in {run['steps']:,} steps of "
            f"{run['batch_size']:,}; {_operations(run['flop'])}",
        )
        split = f"{run['images_at_once']:,} images at once"
        if run["devices"] > 1:
            split += f" on each of {run['devices']} devices"
        if run["accumulate"] > 1:
            split += f", {run['accumulate']} times a step"
        _row(table, "a step", f"{split}; peak rate {run['lr']:.3g} after {run['warmup_epochs']:g} epochs of warm-up")
    _row(
        table,
        "disk",
        f"up to {size(disk['most'])}: {disk['kept']} checkpoints of {size(disk['checkpoint'])} and the next one, "
        f"encoder {size(disk['encoder'])}",
    )
    return table


def _memory(memory: MemoryParts) -> Table:
    table = Table(title=Text(f"Memory of each process ({memory['precision']})"), title_justify="left")
    parts = {
        "weights": memory["weights"],
        "gradients": memory["gradients"],
        "optimizer": memory["optimizer"],
        "average": memory["average"],
        "exchange": memory["exchange"],
        "half-precision copies": memory["copies"],
        f"{memory['images_at_once']:,} images": memory["images"],
        "reserved": memory["reserved"],
        "together": memory["total"],
        "free here": memory["available"],
    }
    shown = {name: value for name, value in parts.items() if value}
    for name in shown:
        table.add_column(Text(name), justify="right")
    table.add_row(*map(size, shown.values()))
    return table


def _here(here: Here) -> Table:
    device = here["device"] if here["devices"] == 1 else f"{here['devices']} x {here['device']}"
    device += f", {here['threads']} threads" if here["device"] == "CPU" else ""
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
            f"assumed: {plan['share']:.0%} of the peak in dense bf16 by the data sheet, while the images keep up"
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
    run, here = plan["run"], plan["here"]
    assert run is not None
    flags = "" if plan["data"] is None else f" --data {shlex.quote(str(plan['data']))}"
    table = Table(
        title=Text(f"How long? What {run['images']:,} images could be trained for, beside published runs"),
        title_justify="left",
        caption=Text(f"to choose one: openmae pretrain {plain(plan['recipe'] + flags)} --epochs … --batch-size …"),
        caption_justify="left",
    )
    table.add_column("")
    for heading in ("epochs", "samples", "batch", "peak rate", "steps", "hours here"):
        table.add_column(heading, justify="right")
    table.add_column("result")
    rate = None if here is None else here["images_per_second"]

    def hours(samples: int) -> str:
        return "" if rate is None else duration(samples / rate / 3600)

    table.add_row(
        "this run",
        f"{run['epochs']:,}",
        number(run["samples"]),
        f"{run['batch_size']:,}",
        f"{run['lr']:.3g}",
        f"{run['steps']:,}",
        hours(run["samples"]),
        "",
    )
    for one in plan["proposals"]:
        table.add_row(
            one["like"],
            f"{one['epochs']:,}",
            number(one["samples"]),
            f"{one['batch_size']:,}",
            f"{one['lr']:.3g}",
            f"{one['steps']:,}",
            hours(one["samples"]),
            "",
        )
    table.add_section()
    for published in plan["published"]:
        table.add_row(
            Text(published["name"]), f"{published['epochs']:,}", number(published["samples"]), "", "", "", "",
            Text(f"{published['result']} ({published['source']})"),
        )  # fmt: skip
    return table
