"""The page of `openmae explore`: what is clicked, and what is shown then."""

import html
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmae.core.geometry import size_text
from openmae.data.decoding import Pixels
from openmae.errors import UserError
from openmae.reporting.explore import drawing
from openmae.reporting.explore.exploring import Explorer

ALL_HEADS = "mean of all"
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
"""Those of the machine: no font is fetched, and none waited for."""
PANELS = (
    ("masked", "Click patches to hide or show them"),
    ("reconstruction", "Reconstruction"),
    ("errors", "Error of hidden patches (bright: large)"),
    ("attention", "Attention, nothing hidden (bright: much)"),
)
CSS = """
.gradio-container { max-width: 1500px !important; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; font-weight: 600; }
#masked img { cursor: crosshair; }
img { image-rendering: pixelated; }
footer { display: none !important; }
"""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What one visitor looks at: an image [H, W, C], its place in the data or None, its name, and its mask."""

    pixels: Pixels
    place: int | None
    name: str
    hidden: NDArray[np.bool_]
    seed: int = 0


def build_page(explorer: Explorer, *, title: str) -> Any:
    """The page as an ASGI application."""
    import gradio as gr
    from fastapi import FastAPI

    page = _Page(explorer)
    bank = explorer.bank
    low, high = explorer.ratios
    blocks = explorer.loaded.model.encoder.blocks
    heads = blocks[0].attn.num_heads
    picture: dict[str, Any] = {"show_label": False, "interactive": False, "format": "png", "buttons": []}

    with gr.Blocks(title=f"openmae explore {title}", analytics_enabled=False, fill_width=True) as layout:
        session = gr.State(None)
        gr.HTML(f"<h1>openmae explore <code>{html.escape(title)}</code></h1>")
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                gr.HTML("<h2>Image</h2>")
                original = gr.Image(elem_id="original", height=200, alt_text="the image", **picture)
                if bank is not None:
                    place = gr.Slider(0, max(1, len(bank) - 1), value=0, step=1, label="Of the data")
                    another = gr.Button("Another image")
                dropped = gr.File(label="Or your own: drop it here", height=150)
                gr.HTML("<h2>Mask</h2>")
                ratio = gr.Slider(
                    math.ceil(100 * low),
                    math.floor(100 * high),
                    value=round(100 * explorer.loaded.mask_ratio),
                    step=1,
                    label="Mask ratio in per cent",
                )
                fresh = gr.Button("New random mask", variant="primary")
                everything = gr.Checkbox(
                    False, label="Show predictions of visible patches", info="The loss does not train these."
                )
                gr.HTML("<h2>Attention</h2>")
                block = gr.Slider(1, len(blocks), value=len(blocks), step=1, label="Block")
                head = gr.Dropdown([ALL_HEADS, *map(str, range(1, heads + 1))], value=ALL_HEADS, label="Head")
            with gr.Column(scale=4, min_width=320):
                figures = gr.HTML(_NOTHING_YET, elem_id="figures")
                shown = {}
                for row in (PANELS[:2], PANELS[2:]):
                    with gr.Row():
                        for name, heading in row:
                            with gr.Column(min_width=300):
                                gr.HTML(f"<h2>{heading}</h2>")
                                shown[name] = gr.Image(elem_id=name, alt_text=heading, **picture)
                if bank is not None:
                    gr.HTML(f"<h2>The nearest of {len(bank):,} images of the data (cosine of the features)</h2>")
                nearest = gr.Gallery(
                    show_label=False,
                    elem_id="nearest",
                    columns=5,
                    height="auto",
                    format="png",
                    allow_preview=False,
                    buttons=[],
                    visible=bank is not None,
                )

        masked, attention = shown["masked"], shown["attention"]
        parts = [masked, shown["reconstruction"], shown["errors"], figures]
        looks = [original, attention, nearest]
        opened, choices = [session, *parts, *looks], [session, ratio, everything, block, head]
        newest: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "minimal"}
        if bank is not None:
            gr.on([layout.load, place.change], page.open, [place, *choices], opened, api_name="open", **newest)
            another.click(page.draw_place, place, place, api_visibility="private")
        dropped.upload(page.drop, [dropped, *choices], opened, api_name="drop")
        fresh.click(page.mask_anew, [session, ratio, everything], [session, *parts], api_name="random_mask", **newest)
        ratio.change(page.change_ratio, [session, ratio, everything], [session, *parts], api_name="ratio", **newest)
        everything.change(page.show, [session, everything], parts, api_name="show", **newest)
        gr.on([block.change, head.change], page.look, [session, block, head], attention, api_name="attention", **newest)

        def click(event: gr.SelectData, session: Session | None, everything: bool) -> Any:
            x, y = event.index
            return page.click(x, y, session, everything)

        masked.select(click, [session, everything], [session, *parts], api_visibility="private", show_progress="hidden")

    return gr.mount_gradio_app(
        FastAPI(),
        layout,
        path="/",
        server_name="127.0.0.1",
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        footer_links=[],
        theme=gr.themes.Default(**FONTS),
        css=CSS,
    )


_NOTHING_YET = "<p>Drop in an image to begin.</p>"


class _Page:
    """What happens when something is clicked. A UserError is shown on the page."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self._random = np.random.default_rng()

    def draw_place(self, place: int) -> int:
        """Any other image of the data."""
        assert self.explorer.bank is not None, "the button is there with data only"
        images = len(self.explorer.bank)
        return (int(place) + int(self._random.integers(1, max(2, images)))) % images

    def open(self, place: int, session: Session | None, ratio: float, *rest: Any) -> tuple[Any, ...]:
        """An image of the data, under the mask of before."""
        assert self.explorer.bank is not None, "the slider is there with data only"
        with _shown_errors():
            pixels = self.explorer.from_data(int(place))
        name = self.explorer.bank.name(int(place))
        label = self.explorer.bank.label(int(place))
        return self._begin(pixels, int(place), f"{name} ({label})" if label else name, session, ratio, *rest)

    def drop(self, file: str | None, session: Session | None, ratio: float, *rest: Any) -> tuple[Any, ...]:
        """An image file of the visitor, under the mask of before."""
        with _shown_errors():
            if file is None:
                raise UserError("no image was dropped; choose a file")
            pixels = self.explorer.from_file(Path(file))
        return self._begin(pixels, None, Path(file).name, session, ratio, *rest)

    def _begin(
        self,
        pixels: Pixels,
        place: int | None,
        name: str,
        session: Session | None,
        ratio: float,
        everything: bool,
        block: int,
        head: str,
    ) -> tuple[Any, ...]:
        seed = 0 if session is None else session.seed
        hidden = self.explorer.random_mask(ratio / 100, seed=seed) if session is None else session.hidden
        session = Session(pixels=pixels, place=place, name=name, hidden=hidden, seed=seed)
        nearest = [
            (drawing.enlarged(found.picture), _caption(found.label or found.name, found.similarity))
            for found in self.explorer.nearest(pixels, without=place)
        ]
        return (
            session,
            *self.show(session, everything),
            drawing.enlarged(drawing.as_colours(pixels)),
            self.look(session, block, head),
            nearest,
        )

    def mask_anew(self, session: Session | None, ratio: float, everything: bool) -> tuple[Any, ...]:
        """Another random mask."""
        session = _begun(session)
        return self.change_ratio(replace(session, seed=session.seed + 1), ratio, everything)

    def change_ratio(self, session: Session | None, ratio: float, everything: bool) -> tuple[Any, ...]:
        """The random mask of this seed with another ratio."""
        session = _begun(session)
        session = replace(session, hidden=self.explorer.random_mask(ratio / 100, seed=session.seed))
        return (session, *self.show(session, everything))

    def click(self, x: int, y: int, session: Session | None, everything: bool) -> tuple[Any, ...]:
        """Hide or show the patch at a pixel of the masked picture."""
        session = _begun(session)
        with _shown_errors():
            hidden = self.explorer.toggled(session.hidden, *self.explorer.patch_at(x, y))
        session = replace(session, hidden=hidden)
        return (session, *self.show(session, everything))

    def show(self, session: Session | None, everything: bool) -> tuple[Pixels, Pixels, Pixels, str]:
        """The masked image, its reconstruction, the errors, and the figures."""
        session = _begun(session)
        made = self.explorer.reconstruct(session.pixels, session.hidden, everything=everything)
        patches = session.hidden.size
        figures = (
            f"<p><b>{html.escape(session.name)}</b>, {size_text(session.pixels.shape[:2])} pixels<br>"
            f"{made.hidden} of {patches} patches hidden ({made.hidden / patches:.0%}); "
            f"error <b>{made.error:.3f}</b> (the loss of this image; largest of a patch {made.largest:.3f}), beside "
            f"{made.flat:.3f} for patches of one colour each, their own mean</p>"
        )
        return made.masked, made.reconstruction, made.errors, figures

    def look(self, session: Session | None, block: int, head: str) -> Pixels:
        """The attention over the whole image."""
        session = _begun(session)
        chosen = None if head == ALL_HEADS else int(head) - 1
        with _shown_errors():
            return self.explorer.attention(session.pixels, block=int(block) - 1, head=chosen)


class _shown_errors:  # noqa: N801  # used like a function
    """A mistake of the visitor is said on the page; any other error is ours and keeps its traceback."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import gradio as gr

        if isinstance(error, UserError):
            raise gr.Error(str(error), print_exception=False) from error


def _begun(session: Session | None) -> Session:
    if session is None:
        import gradio as gr

        raise gr.Error("there is no image yet; drop one in", print_exception=False)
    return session


def _caption(name: str, similarity: float) -> str:
    return f"{name} · {similarity:.2f}"
