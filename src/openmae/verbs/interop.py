"""Verbs between this program and others: the published files, and weights in other layouts."""

from pathlib import Path

from openmae.errors import UserError
from openmae.recipes.zoo import ENTRIES, find_published
from openmae.reporting.published_logs import write_log
from openmae.reporting.zoo import ZooResult, details_of, row_of
from openmae.verbs.verb import verb
from openmae.weights.fetching import ZOO_SCHEME, fetch_published
from openmae.weights.results import Conversion, OnnxPart, OnnxPixels, Software


@verb
def zoo(
    name: str = "",
    *,
    fetch: bool = False,
    log: bool = False,
    check: bool = False,
    out: str | Path | None = None,
    data: str | Path | None = None,
) -> ZooResult:
    """List the published weights; print everything about one, download it, check its figure, or write its log.

    Every verb that takes --weights takes zoo:NAME. Downloads lie below $XDG_CACHE_HOME/openmae/weights, or
    ~/.cache/openmae/weights; those of the Hugging Face hub in its own cache.

    Args:
        name: One row of the table; all of them when not given. With --log also a log file of OpenMMLab or fair.
        fetch: Download the weights of the row into the cache, for use without a network.
        log: Write the training log of the row as our metrics.jsonl, to lay one's own curve over it.
        check: Evaluate the classifier of the row with its protocol; an error unless its top-1 is the published one,
            within 0.1.
        out: With --log: the file to write; NAME/metrics.jsonl when not given.
        data: With --check: ImageNet-1k, or its validation images, in folders named by synsets (n01440764).
    """
    name = name.removeprefix(ZOO_SCHEME)
    chosen = [flag for flag, given in (("--fetch", fetch), ("--log", log), ("--check", check)) if given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} were given; give one of them")
    if chosen and not name:
        raise UserError(f"which row? `openmae zoo NAME {chosen[0]}`; `openmae zoo` lists them")
    if out is not None and not log:
        raise UserError("--out is for --log; add --log or leave it out")
    if check is (data is None):
        problem = "--check needs images: give --data ImageNet-1k" if check else "--data is for --check; add --check"
        raise UserError(f"{problem}, as in `openmae zoo NAME --check --data IMAGENET`")
    if log:
        return write_log(name, None if out is None else Path(out))
    if not name:
        return [row_of(entry) for entry in ENTRIES]
    entry = find_published(name)
    if check:
        from openmae.evaluation.published import check_published

        return check_published(entry, str(data))
    if fetch:
        fetch_published(entry)
    return details_of(entry)


@verb
def convert(
    src: str | Path,
    dst: str | Path,
    *,
    to: Software,
    drop: bool = False,
    push: str | None = None,
    part: OnnxPart | None = None,
    pixels: OnnxPixels | None = None,
) -> Conversion:
    """Write weights for other software, and prove that they compute the same.

    The result is read back and compared bit for bit. Where the library that it is for is installed (timm,
    transformers), source and result also run on one random input. An ONNX file runs in onnxruntime beside the source,
    and is for `openmae embed` and `openmae predict` too. A result that differs is removed.

    Args:
        src: A run folder, a checkpoint, a file or folder of fair, OpenMMLab, Hugging Face or timm, or an address:
            zoo:NAME, hf://owner/name, https://….
        dst: A .pth file for fair and mmpretrain, a folder for huggingface, a .safetensors file or a folder for timm,
            a .onnx file for onnx.
        to: Whose layout to write.
        drop: Leave out what the layout has no place for, such as a decoder in timm.
        push: With a folder for huggingface or timm: upload it to this model of the Hugging Face hub, owner/name, which
            is created, open to everyone, where there is none. Its card, README.md, names recipe, figures and licence.
        part: With --to onnx: encoder (the outputs cls, mean and patches), classifier (logits), or autoencoder (its mask
            is an input); the classifier where there is one, else the encoder, when not given.
        pixels: With --to onnx: the images that it takes: normalised by the caller (when not given), unit (0 … 1, the
            graph normalises), or uint8 (0 … 255, likewise).
    """
    if to == "onnx":
        from openmae.evaluation.onnx.exporting import export_onnx

        if drop:
            raise UserError("--drop is not for --to onnx, which writes the part that you ask for; give --part instead")
        if push is not None:
            raise UserError("--push is for --to huggingface and timm, not onnx; upload the file with `hf upload`")
        return export_onnx(src, Path(dst), part=part, pixels=pixels or "normalised")
    if part is not None or pixels is not None:
        raise UserError(f"--part and --pixels are for --to onnx, not {to}; leave them out")
    from openmae.weights.converting import convert_weights

    return convert_weights(src, Path(dst), target=to, drop=drop, push=push)
