"""The tiny job as users of transformers.Trainer and of Lightning write it: same images, network and steps.

Both are used as their documentation says for runs that are to survive: a checkpoint after every step, the seeds set,
deterministic algorithms, no loader processes (which would make it harder), the documented way to resume.
"""

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.damage import DamageResult, Injury, Verdict, count, injured, injuries
from tests.faults.job import BATCH, EPOCHS, METRICS, STEPS, Contender, touched
from tests.faults.zygote import OPENMAE, Zygote, load

IMPORTS = (
    *OPENMAE,
    "tests.faults.contenders",
    "transformers.trainer",
    "pytorch_lightning",
    "torchvision.transforms.v2",
    "transformers.models.vit_mae.modeling_vit_mae",
)
PLAIN = "FAULTS_PLAIN"
"""Set in the environment, no crops and flips are drawn: what then still differs after a restart is not their doing."""
STARTS, SAVING, WEIGHTS, STOP_AFTER, STOPPED_AFTER = "starts.jsonl", "saving", "final.safetensors", "FAULTS_STOP", 20
# The network of tests.faults.job, in the words of transformers.
VIT_MAE: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "num_channels": 1,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 128,
}
Probe = Callable[[str], None]


def transformers_trainer(images: Path) -> Contender:
    return _contender(
        "transformers.Trainer",
        "tests.faults.contenders:run_transformers",
        images,
        "save_strategy steps, save_steps 1, save_total_limit 3, full_determinism, resume_from_checkpoint = "
        "get_last_checkpoint(output_dir), num_workers 0",
        saved=lambda out: _newest(out.glob("checkpoint-*/trainer_state.json"), "-"),
    )


def lightning(images: Path) -> Contender:
    return _contender(
        "Lightning",
        "tests.faults.contenders:run_lightning",
        images,
        "ModelCheckpoint(every_n_train_steps=1, save_last=True), deterministic, seed_everything(workers=True), "
        'ckpt_path="last", num_workers 0',
        saved=lambda out: _newest((out / "checkpoints").glob("epoch=*.ckpt"), "="),
    )


def _contender(name: str, target: str, images: Path, settings: str, *, saved: Callable[[Path], int]) -> Contender:
    def starts(out: Path) -> list[int]:
        lines = (out / STARTS).read_text().split() if (out / STARTS).exists() else []
        return [int(line) for line in lines]

    return Contender(
        name=name,
        target=target,
        arguments=lambda out: [str(images), str(out)],
        weights=WEIGHTS,
        unfinished=lambda out: touched([out / SAVING]),
        saved=saved,
        starts=starts,
        settings=settings,
    )


def _newest(paths: Any, separator: str) -> int:
    steps = [path.parent.name if path.name.endswith(".json") else path.stem for path in paths]
    return max((int(step.split("-v")[0].rsplit(separator, 1)[1]) for step in steps), default=0)


# ------------------------------------------------------------------------------------- what runs in the child


def dataset(images: Path) -> Any:
    """Augmented pictures, as a user writes them: torchvision's transforms in `__getitem__`."""
    import torch
    from PIL import Image
    from torchvision.transforms import v2

    plain = [v2.Resize((16, 16), antialias=True)]
    augmented = [v2.RandomResizedCrop(16, scale=(0.4, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            *(plain if os.environ.get(PLAIN) else augmented),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.286], [0.353]),
        ]
    )

    class Pictures(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
        def __init__(self) -> None:
            self.files = sorted(images.iterdir())

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return {"pixel_values": transform(Image.open(self.files[index]))}

    return Pictures()


def model() -> Any:
    """The network inside a module that is nothing else.

    Handed to Trainer as it is, transformers' own ViTMAE (5.23) comes back from a checkpoint with other encoder weights:
    it is saved under other names than it is loaded by, and Trainer only logs those missing. This is not about that.
    """
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.autoencoder = ViTMAEForPreTraining(ViTMAEConfig(**VIT_MAE))

        def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.autoencoder(pixel_values).loss}

    return Network()


def run_transformers(arguments: list[str], probe: Probe | None = None) -> int:
    """Train with transformers.Trainer, or go on; `probe` is told what was restored and ends it."""
    import transformers
    from transformers.trainer_utils import get_last_checkpoint

    images, out = Path(arguments[0]), Path(arguments[1])
    out.mkdir(exist_ok=True)
    transformers.set_seed(0)

    class Trainer(transformers.Trainer):  # type: ignore[misc]  # transformers is not typed here
        started = False

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if not self.started:
                self.started = True
                if probe is not None:
                    restored = (self.model.state_dict(), self.optimizer.state_dict(), self.lr_scheduler.state_dict())
                    probe(fingerprint([*restored, self.state.global_step, _random_state()]))
                _begin(out, self.state.global_step)
            loss = super().training_step(*args, **kwargs)
            _log(out, self.state.global_step + 1, loss)
            return loss

        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            (out / SAVING).touch()
            super()._save_checkpoint(*args, **kwargs)
            (out / SAVING).unlink()
            _perhaps_stop(self.state.global_step)

    trainer = Trainer(
        model=model(),
        args=transformers.TrainingArguments(
            output_dir=str(out),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-3,
            warmup_steps=12,
            save_strategy="steps",
            save_steps=1,
            save_total_limit=3,
            seed=0,
            data_seed=0,
            full_determinism=True,
            dataloader_num_workers=0,
            remove_unused_columns=False,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=dataset(images),
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)))
    _export(trainer.model, out)
    return 0


def run_lightning(arguments: list[str], probe: Probe | None = None) -> int:
    """Train with Lightning's Trainer, or go on; `probe` is told what was restored and ends it."""
    import pytorch_lightning
    import torch
    from pytorch_lightning.callbacks import ModelCheckpoint

    images, out = Path(arguments[0]), Path(arguments[1])
    out.mkdir(exist_ok=True)
    pytorch_lightning.seed_everything(0, workers=True)

    class Module(pytorch_lightning.LightningModule):  # type: ignore[misc]  # not typed here either
        def __init__(self) -> None:
            super().__init__()
            self.network = model()
            self.started = False

        def training_step(self, batch: Any, _number: int) -> Any:
            if not self.started:
                self.started = True
                if probe is not None:
                    optimizer, schedule = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
                    restored = (self.state_dict(), optimizer.state_dict(), schedule.state_dict())
                    probe(fingerprint([*restored, self.trainer.global_step, self.trainer.current_epoch]))
                _begin(out, self.trainer.global_step)
            loss = self.network(**batch)["loss"]
            _log(out, self.trainer.global_step + 1, loss)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    class Trainer(pytorch_lightning.Trainer):  # type: ignore[misc]
        def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            (out / SAVING).touch()
            super().save_checkpoint(*args, **kwargs)
            (out / SAVING).unlink()

    class Stop(pytorch_lightning.Callback):  # type: ignore[misc]
        def on_train_batch_start(self, trainer: Any, *_arguments: Any) -> None:
            _perhaps_stop(trainer.global_step)

    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        deterministic=True,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Stop(), ModelCheckpoint(dirpath=out / "checkpoints", every_n_train_steps=1, save_last=True)],
    )
    module = Module()
    loader: Any = torch.utils.data.DataLoader(dataset(images), batch_size=BATCH, shuffle=True, num_workers=0)
    trainer.fit(module, loader, ckpt_path="last")
    _export(module.network, out)
    return 0


def _begin(out: Path, step: int) -> None:
    """Bookkeeping of the test: where this attempt starts; lines that it will log again go."""
    with (out / STARTS).open("a") as file:
        file.write(f"{step}\n")
    log = out / METRICS
    if log.exists():
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _log(out: Path, step: int, loss: Any) -> None:
    with (out / METRICS).open("a") as file:
        file.write(json.dumps({"step": step, "loss": float(loss.detach())}) + "\n")


def _export(network: Any, out: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, out / WEIGHTS)


def _perhaps_stop(step: int) -> None:
    if os.environ.get(STOP_AFTER) == str(step):
        os._exit(0)


def _random_state() -> list[Any]:
    import numpy as np
    import torch

    return [torch.get_rng_state(), np.random.get_state(), random.getstate()]  # what Trainer restores


def fingerprint(value: Any) -> str:
    """A hash of nested containers, tensors bit for bit."""
    import numpy as np
    import torch

    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=repr):
                digest.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            digest.update(f"[{len(value)}]".encode())
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(value)
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------- damaged checkpoints


class _Restored(BaseException):
    """Ends a trainer that has restored its state; it passes whatever handles errors."""


def measure_damage(
    zygote: Zygote, contender: Contender, folder: Path, *, flips: int, cuts: int, seed: int = 0
) -> DamageResult:
    """Damage what the trainer resumes from in each of these ways, and let it resume."""
    out, log, verdicts = folder / "run", folder / "log", folder / "verdicts.jsonl"
    child = zygote.start(
        contender.target, contender.arguments(out), log=log, environment={STOP_AFTER: str(STOPPED_AFTER)}
    )
    assert child.wait() == 0, log.read_text()
    done: list[tuple[Injury, Verdict]] = []
    every = injuries(_resumed_from(out), flips=flips, cuts=cuts, seed=seed)
    while len(done) < len(every):
        # A process that crashes on a damaged file has noticed, too; another one takes over after that.
        (folder / "injuries.json").write_text(json.dumps(every[len(done) :]))
        verdicts.unlink(missing_ok=True)
        zygote.start(
            "tests.faults.contenders:try_injuries",
            [contender.target, *contender.arguments(out), str(folder / "injuries.json"), str(verdicts)],
            log=log,
        ).wait(1800)
        lines = verdicts.read_text().split() if verdicts.exists() else []
        if not lines:
            raise RuntimeError(f"{contender.name} cannot be damaged: {log.read_text()[-2000:]}")
        told: list[Verdict] = [word for word in lines if word in ("detected", "harmless", "silent")]  # type: ignore[misc]
        done += zip(every[len(done) :], told, strict=False)
        if len(done) < len(every) and lines[-1] == "trying":
            done.append((every[len(done)], "detected"))
    return count(contender.name, contender.settings, done)


def _resumed_from(out: Path) -> Path:
    """The folder of the files that are read to resume."""
    if (out / "checkpoints" / "last.ckpt").exists():
        for path in (out / "checkpoints").glob("epoch=*.ckpt"):
            path.unlink()  # copies, which are not read
        return out / "checkpoints"
    return out / f"checkpoint-{STOPPED_AFTER}"


def try_injuries(arguments: list[str]) -> int:
    """In a child: resume from each damaged state and write a verdict on each, "trying" before it."""
    target, images, out, wanted, verdicts = arguments
    run, restored = load(target), list[str]()

    def probe(state: str) -> None:
        restored.append(state)
        raise _Restored

    def resume() -> str | None:
        restored.clear()
        try:
            run([images, out], probe)
        except _Restored:
            return restored[0]
        except Exception as error:
            print(f"{type(error).__name__}: {str(error)[:200]}", flush=True)
            return None
        return "finished without a step"

    written = resume()
    assert written is not None
    assert written == resume(), "restoring twice gives two states"
    with Path(verdicts).open("a") as file:
        for injury in (Injury(*fields) for fields in json.loads(Path(wanted).read_text())):
            file.write("trying\n")
            file.flush()
            with injured(_resumed_from(Path(out)), injury):
                found = resume()
            file.write("detected\n" if found is None else "harmless\n" if found == written else "silent\n")
            file.flush()
    return 0
