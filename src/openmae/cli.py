"""The command line: parse, find the recipe, call the verb."""

import atexit
import difflib
import gc
import json as json_module
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from openmae import reporter, verbs
from openmae.errors import UserError
from openmae.recipes import RECIPES, Recipe, Stage, find_recipe
from openmae.recipes.saved import from_yaml, to_dict, to_yaml
from openmae.recipes.stages import RECIPE_TYPES
from openmae.recipes.values import Every, ImageSize, Pooling
from openmae.reporter import Reporter, plain_lines
from openmae.slurm import Allocation, submit, write_script
from openmae.training.processes.launching import (
    ANNOUNCED,
    GRACE,
    have_joined,
    process_rank,
    processes_exist,
    require_startable,
    run_processes,
)
from openmae.training.processes.stopping import STOPPED, Interrupted

# torch and its like leave a million objects, in which Python looks for garbage when it ends.
atexit.register(gc.freeze)

DONE, FAILED, WRONG_USAGE = 0, 1, 2
DEBUG = "OPENMAE_DEBUG"

HELP = """\
openmae: pre-train Vision Transformers on your own unlabelled images with masked autoencoders.

Start here:
  openmae demo                                            the whole story on bundled images, in a few minutes
  openmae pretrain vit-b16-800e --data photos/ --out runs/photos
  openmae reconstruct --weights runs/photos --out picture.png photos/some.jpg

Verbs (each has --help):
  demo         pre-train, measure and draw on the bundled Fashion-MNIST images
  recipes      list every recipe, or print one as YAML
  check        look at every image of a data set: kinds, sizes, classes, duplicates, and what is broken
  pretrain     pre-train by a recipe; run the same command again to continue where it stopped
  linear       linear evaluation of frozen features (--cached: in seconds, for small data)
  finetune     fine-tune end to end
  slurm        one of these three as a job of a Slurm cluster: openmae slurm --partition gpu pretrain …
  knn          nearest neighbours on frozen features
  embed        features of every image to a Parquet file
  reconstruct  what the model sees and what it makes of it, as a picture
  pack         a copy of a data set that decodes faster: smaller images in tar shards

--json prints results for machines. Exit codes: 0 done, 1 failed, 2 wrong usage, 71 another process of the run
was lost, 75 stopped by a signal (everything is saved, the same command continues).
"""


class SeveralProcesses(Exception):
    """The command needs a process for each of several devices, and nobody has started them yet."""

    def __init__(self, devices: int, nodes: int, peer_timeout: float) -> None:
        super().__init__(f"{devices} devices on {nodes} machines")
        self.devices, self.nodes, self.peer_timeout = devices, nodes, peer_timeout


class Usage(Exception):
    """The command was not understood; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    rank = process_rank()
    console = Console(stderr=True, quiet=rank > 0)  # one of several processes speaks for all
    try:
        warnings.formatwarning = _terse
        try:
            with reporter.use(Reporter(console=console)):
                return _dispatch(arguments, console)
        except SeveralProcesses as needed:
            patience = needed.peer_timeout + GRACE
            return run_processes(arguments, devices=needed.devices, nodes=needed.nodes, patience=patience)
    except Usage as error:
        return _fail(console, str(error), WRONG_USAGE)
    except Interrupted as error:
        command = shlex.join(["openmae", *arguments])
        return _fail(console, f"{error}, everything is saved; to continue: {command}", STOPPED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone, and Python would complain about it at exit
        return FAILED
    except KeyboardInterrupt:
        return _fail(console, "stopped; the same command continues from the last checkpoint", FAILED)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        known = isinstance(error, UserError | OSError)
        hint = "" if known else f" ({type(error).__name__}; set {DEBUG}=1 to see where, and please report it)"
        # What every process finds wrong before they have joined, one of each machine tells.
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        if rank and (first or have_joined()) and ANNOUNCED not in getattr(error, "__notes__", []):
            return _fail(Console(stderr=True), f"rank {rank}: {error}{hint}", FAILED)
        return _fail(console, f"{error}{hint}", FAILED)


def _dispatch(arguments: list[str], console: Console) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return DONE if arguments else WRONG_USAGE
    if arguments[0] == "--version":
        import openmae

        print(f"openmae {openmae.__version__}")
        return DONE
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean `openmae {near[0]}`?" if near else "`openmae --help` lists the verbs."
        raise Usage(f"there is no verb called {verb!r}; {hint}")
    VERBS[verb](rest, console)
    return DONE


def _terse(message: Warning | str, *_: Any, **__: Any) -> str:
    """A warning without the line of ours that gives it."""
    return f"openmae: {plain_lines(str(message))}\n"


def _fail(console: Console, message: str, code: int) -> int:
    console.print(f"openmae: {plain_lines(message)}", style="red", markup=False, highlight=False, soft_wrap=True)
    return code


def _parse(command: Callable[..., None], verb: str, arguments: Sequence[str]) -> None:
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_written_in_one_word)
    tyro.cli(
        command,
        prog=f"openmae {verb}",
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes,),
        registry=registry,
    )


def _written_in_one_word(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """How tyro reads and shows the values of a recipe that have a notation of their own."""
    kind = info.type
    if kind not in (ImageSize, Every):
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="SIZE" if kind is ImageSize else "EVERY",
        instance_from_str=lambda words: kind.parse(words[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def _demo(arguments: list[str], console: Console) -> None:
    def command(*, out: Path = Path("runs/demo"), seed: int = 0, json: bool = False) -> None:
        """Pre-train on the bundled images, measure the features beside an untrained twin, draw reconstructions.

        Args:
            out: Folder for the runs and the picture; the same folder continues a demo that was stopped.
            seed: Seed of everything random.
            json: Print one JSON object instead of the table.
        """
        outcome = verbs.demo(out=out, seed=seed)
        if json:
            return _print_json(outcome)
        from openmae.reporting.demo import demo_table

        Console().print(demo_table(outcome))
        print(f"reconstructions: {outcome['picture']}\nrun folder:      {outcome['run']}")
        print(f"{outcome['seconds']:.0f} seconds")

    _parse(command, "demo", arguments)


def _recipes(arguments: list[str], console: Console) -> None:
    def command(name: tyro.conf.Positional[str] = "", /, *, json: bool = False) -> None:
        """List every recipe, or print one as YAML.

        Args:
            name: A recipe; all of them when not given.
            json: Print JSON instead.
        """
        if name:
            recipe = _find(name, None)
            return _print_json(to_dict(recipe)) if json else print(to_yaml(recipe), end="")
        if json:
            return _print_json([_summary(recipe) for recipe in RECIPES.values()])
        Console().print(_recipe_table())

    _parse(command, "recipes", arguments)


def _trainer(stage: Stage, run: Callable[..., dict[str, Any]]) -> Callable[[list[str], Console], None]:
    """The verb of one stage."""

    def train(recipe: Any, out: Path | None, json: bool, console: Console) -> None:
        if recipe.devices * recipe.nodes > 1 and not processes_exist():
            require_startable(recipe)
            raise SeveralProcesses(recipe.devices, recipe.nodes, recipe.peer_timeout)
        result = run(recipe, out=out)
        if process_rank() > 0:
            return None  # one of several processes; the first one speaks for all
        if json:
            return _print_json(result)
        _print_result(result)

    return _stage(stage, train)


def _stage(
    stage: Stage, act: Callable[[Any, Path | None, bool, Console], None]
) -> Callable[[list[str], Console], None]:
    """Parse the arguments of a stage, a recipe by name or file and its fields as flags, and `act` on them."""

    def verb(arguments: list[str], console: Console) -> None:
        if arguments[:1] in (["-h"], ["--help"]):
            return _print_stage_help(stage)
        recipe, rest = _take_recipe(stage, arguments)

        def command(*, recipe: Any, out: Path | None = None, json: bool = False) -> None:
            act(recipe, out, json, console)

        kind = type(recipe)
        command.__annotations__["recipe"] = kind
        command.__kwdefaults__ = {**(command.__kwdefaults__ or {}), "recipe": recipe}
        command.__doc__ = f"""{recipe.name}: {_describe(recipe)}

        Args:
            out: The run folder; runs/{recipe.name} when not given. The same command continues what is there.
            json: Print the result as JSON.
        """
        _parse(command, f"{stage} {recipe.name}", rest)

    return verb


def _take_recipe(stage: Stage, arguments: list[str]) -> tuple[Recipe, list[str]]:
    """The recipe that the arguments name, first word or --recipe-file, and the rest of them."""
    if "--recipe-file" in arguments:
        place = arguments.index("--recipe-file")
        if place + 1 == len(arguments):
            raise Usage("--recipe-file needs the path of a recipe.yaml")
        path = Path(arguments[place + 1])
        if not path.is_file():
            raise Usage(f"there is no recipe file {path}; a run folder holds one as recipe.yaml")
        try:
            recipe = from_yaml(path.read_text(encoding="utf-8"))
        except (UserError, OSError) as error:
            raise Usage(f"{path}: {error}") from error
        if recipe.stage != stage:
            raise Usage(f"{path} is a recipe for {recipe.stage}; use `openmae {recipe.stage}`")
        return recipe, arguments[:place] + arguments[place + 2 :]
    if not arguments or arguments[0].startswith("-"):
        raise Usage(f"which recipe? `openmae {stage} NAME …`; `openmae recipes` lists them")
    return _find(arguments[0], stage), arguments[1:]


def _find(name: str, stage: Stage | None) -> Recipe:
    try:
        return find_recipe(name, stage)
    except UserError as error:
        raise Usage(str(error)) from error


def _slurm(arguments: list[str], console: Console) -> None:
    own, rest = _split_at_stage(arguments)

    def command(*, allocation: Allocation, dry_run: bool = False) -> None:
        """Submit a training to Slurm: openmae slurm --partition gpu --time 72:00:00 pretrain vit-b16-800e --data photos
        --out runs/photos --nodes 4 --devices 8

        From "pretrain" on (or linear, finetune) it is that verb's own command, checked here and now. Its --nodes, and
        its --devices of each machine, are what the job asks for.

        The script is written to RUN/slurm.sh, and its log to RUN/slurm-JOB.log. Two minutes before the time limit the
        training saves and the job is requeued, to continue where it stopped. RUN, the data and this Python environment
        must be at the same paths on every machine. Needs the extra: pip install 'openmae[slurm]'.

        Args:
            dry_run: Write the script and print it, but do not submit it.
        """
        if not rest or rest[0] not in RECIPE_TYPES:
            raise Usage(f"what shall the job do? `openmae slurm [flags] {'|'.join(RECIPE_TYPES)} RECIPE …`")

        def act(recipe: Recipe, out: Path | None, json: bool, console: Console) -> None:
            require_startable(recipe)
            file = write_script(verbs.default_out(recipe, out), recipe, rest[1:], allocation)
            if dry_run:
                print(file.read_text(encoding="utf-8", errors="replace"), end="")
                console.print(f"written to {file}", markup=False, highlight=False, soft_wrap=True)
                return
            job = submit(file)
            log = shlex.quote(str(file.with_name(f"slurm-{job.number}.log")))
            print(f"job {job.number} submitted: {file}")
            print(f"watch:  squeue {job.cluster}--jobs={job.number}\n        tail -F {log}")
            print(f"cancel: scancel {job.cluster}{job.number}")

        _stage(rest[0], act)(rest[1:], console)

    _parse(command, "slurm", own)


def _split_at_stage(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The flags of `openmae slurm` itself, and the command behind them."""
    place = 0
    while place < len(arguments) and arguments[place].startswith("-"):
        alone = arguments[place].replace("_", "-") in ("--dry-run", "--no-dry-run", "--help", "-h")
        place += 1 if alone or "=" in arguments[place] else 2
    return arguments[:place], arguments[place:]


def _knn(arguments: list[str], console: Console) -> None:
    def command(
        *,
        weights: Path,
        data: str,
        labels: str | None = None,
        neighbours: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 20,
        label_fraction: float = 1.0,
        pool: Pooling = "mean",
        untrained: bool = False,
        seed: int = 0,
        devices: int = 1,
        nodes: int = 1,
        json: bool = False,
    ) -> None:
        """Nearest neighbours on frozen features, by cosine similarity; leave-one-out when there is no test split.

        Args:
            weights: A run folder, a checkpoint or an encoder.safetensors.
            data: A folder with one sub-folder per class, labelled Parquet or tar shards, or fashion-mnist.
            labels: A CSV file with the columns path and label, for images that lie in no class folders.
            neighbours: How many neighbours vote.
            label_fraction: Use this share of the labels: a balanced subset drawn with the seed.
            pool: The class token, or the mean of the patch tokens.
            untrained: Measure the same network with fresh weights instead, for comparison.
            seed: Of the subset, and of fresh weights.
            devices: Devices per machine; torchrun's own count wins.
            nodes: Number of machines.
            json: Print the result as JSON.
        """
        _require_processes(devices, nodes)
        result = verbs.knn(
            weights=weights,
            data=data,
            labels=labels,
            neighbours=neighbours,
            label_fraction=label_fraction,
            pool=pool,
            untrained=untrained,
            seed=seed,
            devices=devices,
            nodes=nodes,
        )
        if process_rank() > 0:
            return None
        if json:
            return _print_json(result)
        _print_result(result)

    _parse(command, "knn", arguments)


def _embed(arguments: list[str], console: Console) -> None:
    def command(
        *,
        weights: Path,
        data: str,
        out: Path,
        labels: str | None = None,
        batch_size: int = 256,
        devices: int = 1,
        nodes: int = 1,
        json: bool = False,
    ) -> None:
        """Features of every image to a Parquet file: path, split, label, class, and the vectors `cls` and `mean`.

        Args:
            weights: A run folder, a checkpoint or an encoder.safetensors.
            data: A folder of images, Parquet, or fashion-mnist.
            out: The Parquet file to write.
            labels: A CSV file with the columns path and label, for images that lie in no class folders.
            batch_size: Images encoded at once.
            devices: Devices per machine; torchrun's own count wins.
            nodes: Number of machines.
            json: Print the counts as JSON.
        """
        _require_processes(devices, nodes)
        counts = verbs.embed(
            weights=weights,
            data=data,
            out=out,
            labels=labels,
            batch_size=batch_size,
            devices=devices,
            nodes=nodes,
        )
        if process_rank() > 0:
            return None
        if json:
            return _print_json({**counts, "out": str(out)})
        print(f"{counts['images']:,} images written to {out}, {counts['bad']:,} could not be decoded")

    _parse(command, "embed", arguments)


def _reconstruct(arguments: list[str], console: Console) -> None:
    def command(
        images: tyro.conf.Positional[tuple[Path, ...]] = (),
        /,
        *,
        weights: Path,
        out: Path,
        data: str | None = None,
        rows: int = 8,
        mask_ratio: float | None = None,
        seed: int = 0,
    ) -> None:
        """Draw for each image: original, masked, reconstruction, reconstruction with the visible patches.

        Args:
            images: Image files.
            weights: A run folder of `openmae pretrain`, or one of its checkpoints.
            out: The PNG to write.
            data: Instead of image files: a data set, of which some training images are drawn.
            rows: How many of them.
            mask_ratio: Share of the patches to hide; that of the pre-training when not given.
            seed: Of the masks.
        """
        print(
            verbs.reconstruct(images, weights=weights, out=out, data=data, rows=rows, mask_ratio=mask_ratio, seed=seed)
        )

    _parse(command, "reconstruct", arguments)


def _pack(arguments: list[str], console: Console) -> None:
    def command(
        source: tyro.conf.Positional[str],
        destination: tyro.conf.Positional[str],
        /,
        *,
        labels: str | None = None,
        short_side: int = 288,
        quality: int = 90,
        format: Literal["auto", "jpeg", "raw"] = "auto",  # noqa: A002  # the name of the flag
        shard_size: int = 500,
        workers: int | None = None,
        json: bool = False,
    ) -> None:
        """Copy a data set to tar shards of smaller images, which decode faster; use the folder as --data.

        Args:
            source: What --data takes: a folder of images, Parquet, tar shards, hf://owner/name.
            destination: A new folder. What a pack that was stopped left there is packed anew.
            labels: A CSV file with the columns path and label, for images that lie in no class folders.
            short_side: Larger images are reduced to this short side, in pixels; 288 serves crops of 224.
            quality: Of JPEG, 1 to 100.
            format: raw stores pixels as they are: larger, and fastest. auto: raw up to 64 pixels, else JPEG.
            shard_size: Megabytes in one shard.
            workers: Processes; one for each processor, up to 9, when not given.
            json: Print the result as JSON.
        """
        try:
            result = verbs.pack(
                source,
                destination,
                labels=labels,
                short_side=short_side,
                quality=quality,
                format=format,
                shard_size=shard_size,
                workers=workers,
            )
        except KeyboardInterrupt as error:
            raise UserError(f"stopped; the same command packs {destination} anew") from error
        if json:
            return _print_json(result)
        before, after, rates = result["bytes_before"], result["bytes_after"], result["images_per_second"]
        left_out = f", {result['bad']:,} left out (bad_images.jsonl says why)" if result["bad"] else ""
        print(f"{result['images']:,} images packed in {result['seconds']:.0f} seconds{left_out}")
        print(f"{before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB after")
        print(
            f"decoding and cropping: {rates['source']:,.0f} images/s before, {rates['packed']:,.0f} after, "
            f"{result['speedup']:.1f} times as fast"
        )
        print(f"use it with --data {destination}")

    _parse(command, "pack", arguments)


def _check(arguments: list[str], console: Console) -> None:
    def command(
        data: tyro.conf.Positional[str],
        /,
        *,
        labels: str | None = None,
        out: Path | None = None,
        workers: int | None = None,
        json: bool = False,
    ) -> None:
        """Decode every image once; report kinds, sizes, channels, classes, duplicates, statistics and what is broken.

        Args:
            data: A folder of images, Parquet, tar shards, or fashion-mnist.
            labels: A CSV file with the columns path and label, for images that lie in no class folders.
            out: Folder for check.json, bad_images.jsonl and contact_sheet.png; runs/check-NAME when not given.
            workers: Processes that decode; as many as there are processors to spare when not given.
            json: Print the result as one JSON object.
        """
        result = verbs.check(data, labels=labels, out=out, workers=workers)
        if json:
            return _print_json(result)
        from openmae.reporting.check import check_report

        Console().print(check_report(result))

    _parse(command, "check", arguments)


def _require_processes(devices: int, nodes: int) -> None:
    if devices * nodes > 1 and not processes_exist():
        raise SeveralProcesses(devices, nodes, peer_timeout=0.0)


def _print_json(value: Any) -> None:
    print(json_module.dumps(value, indent=1))


def _print_result(result: dict[str, Any]) -> None:
    if "encoder" in result:
        from openmae.evaluation.tasks import TASKS

        task = TASKS[result.get("task", "classification")]  # results of earlier versions name no task
        print(f"{result['protocol']} of the {result['encoder']} encoder: {task.sentence(result)}")
    else:
        print(f"final loss {result['loss']:.4f}, {result['images_per_second']:.0f} images/s")
    if "out" in result:
        print(f"run folder: {result['out']}")


def _summary(recipe: Recipe) -> dict[str, Any]:
    fields = ("name", "stage", "backbone", "epochs", "batch_size", "follows", "published_top1")
    return {field: getattr(recipe, field) for field in fields}


def _describe(recipe: Recipe) -> str:
    published = f"; published top-1 {recipe.published_top1} ({recipe.published_by})" if recipe.published_top1 else ""
    note = f"; {recipe.note}" if recipe.note else ""
    return f"{recipe.stage} of {recipe.backbone}, {recipe.epochs} epochs, batch {recipe.batch_size}{published}{note}."


def _recipe_table() -> Table:
    table = Table(
        title="Recipes", title_justify="left", caption="top-1: ImageNet-1k, published; of pretrain after fine-tuning"
    )
    for heading, side in (
        ("name", "left"),
        ("stage", "left"),
        ("epochs", "right"),
        ("batch", "right"),
        ("follows", "left"),
        ("top-1", "right"),
    ):
        table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True)
    recipes = list(RECIPES.values())
    for recipe, after in zip(recipes, [*recipes[1:], None], strict=True):
        top1 = f"{recipe.published_top1:g}" if recipe.published_top1 else ""
        table.add_row(
            recipe.name,
            recipe.stage,
            str(recipe.epochs),
            str(recipe.batch_size),
            recipe.follows,
            top1,
            end_section=after is not None and after.stage == "pretrain" and recipe.stage != "pretrain",
        )
    return table


def _print_stage_help(stage: Stage) -> None:
    names = [recipe.name for recipe in RECIPES.values() if recipe.stage == stage]
    weights = "" if stage == "pretrain" else " --weights RUN"
    print(f"usage: openmae {stage} RECIPE{weights} --data D --out RUN [--any-field-of-the-recipe VALUE]")
    print(f"       openmae {stage} --recipe-file RUN/recipe.yaml --out RUN2\n")
    print(f"`openmae {stage} RECIPE --help` explains every field of a recipe and its value there.\n\nrecipes:")
    print("\n".join(f"  {name}" for name in names))


VERBS: dict[str, Callable[[list[str], Console], None]] = {
    "demo": _demo,
    "recipes": _recipes,
    "check": _check,
    "pretrain": _trainer("pretrain", verbs.pretrain),
    "linear": _trainer("linear", verbs.linear),
    "finetune": _trainer("finetune", verbs.finetune),
    "slurm": _slurm,
    "knn": _knn,
    "embed": _embed,
    "reconstruct": _reconstruct,
    "pack": _pack,
}


if __name__ == "__main__":
    sys.exit(main())
