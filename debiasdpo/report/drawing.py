"""How figures look, and how they become SVG for the page and PNG for slides."""

import contextlib
import io
import re
import textwrap
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from debiasdpo.config.shown import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.5  # inches: nearly its own size at 400 pixels; two side by side at 1280
MARGIN = 0.12  # inches to the right of the axes
_DPI = 180
_FONTS = "DejaVu Sans, Verdana, sans-serif"  # Verdana is as wide, where DejaVu is not installed

# Okabe & Ito's colours, which people with any kind of colour blindness can tell apart.
BLACK, GREY = "#1a1a1a", "#767676"
ORANGE, SKY, GREEN, BLUE = "#e69f00", "#56b4e9", "#009e73", "#0072b2"
VERMILLION, PURPLE = "#d55e00", "#cc79a7"

# A colour for each family of methods, a shape for each method: either alone tells enough in grey.
_MARKS = {
    "none": (BLACK, "o"), "base model": (BLACK, "o"),
    "debiasing_dpo": (BLUE, "o"), "invariance": (VERMILLION, "s"),
    "head": (VERMILLION, "*"), "head_distilled": (VERMILLION, "X"),
    "sft": (ORANGE, "^"), "sft_balanced": (ORANGE, "v"), "sft_augmented": (ORANGE, "<"),
    "sft_augmented_ranking": (ORANGE, "d"), "sft_regression": (ORANGE, ">"),
    "sft_soft": (ORANGE, "8"), "sft_ranking": (ORANGE, "H"),
    "bct": (SKY, "o"), "activation": (VERMILLION, "D"),
    "dpo_ground_truth": (GREEN, "D"), "dpo_self_score": (GREEN, "P"), "dpo_only": (GREEN, "X"),
    "prompt_ignore": (PURPLE, "*"), "prompt_fairness": (PURPLE, "p"),
    "prompt_think": (PURPLE, "h"), "prompt_strip": (PURPLE, "d"),
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """One figure. `svg` can stand in a page beside others; `caption` says what to look at, `notes` what is
    missing in it or to be trusted little."""

    name: str  # of its files, and of no other figure
    title: str
    caption: str
    notes: tuple[str, ...]
    svg: str
    png: bytes


def mark(method: str) -> tuple[str, str]:
    """Colour and marker of a method; those that users name get one of a few."""
    return _MARKS.get(method) or (SKY, "><8H1"[zlib.crc32(method.encode()) % 5])


@contextlib.contextmanager
def style(name: str) -> Iterator[None]:
    """Settings for one figure; `name` makes the same figure the same SVG each time."""
    import matplotlib

    settings: Any = {
        "font.family": "DejaVu Sans", "font.size": 9.5, "axes.titlesize": 9.5,
        "axes.titlelocation": "left", "axes.labelsize": 9.5, "legend.fontsize": 8.5,
        "xtick.labelsize": 9, "ytick.labelsize": 9, "axes.spines.top": False,
        "axes.spines.right": False, "axes.edgecolor": GREY, "axes.linewidth": 0.8,
        "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e3e3e3", "grid.linewidth": 0.7,
        "xtick.color": BLACK, "ytick.color": BLACK, "legend.frameon": False,
        "svg.fonttype": "none", "svg.hashsalt": name,
        "text.parse_math": False, "axes.unicode_minus": True, "savefig.facecolor": "white",
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's reader has other fonts
        yield


def canvas(
    height: float, *, left: float, bottom: float, top: float = 0.1, right: float = MARGIN
) -> "Figure":
    """An empty figure whose axes leave these margins. All in inches; `height` is that of the axes.

    Fixed margins instead of a layout engine, which takes as long as all the drawing.
    """
    from matplotlib.figure import Figure

    whole = height + top + bottom
    figure = Figure(figsize=(WIDTH, whole))
    figure.subplots_adjust(left / WIDTH, bottom / whole, 1 - right / WIDTH, 1 - top / whole)
    return figure


def wrapped(label: str) -> str:
    """A label beside an axis, on up to three lines of 20 characters."""
    label = one_line(label)
    return "\n".join(textwrap.wrap(label, 20, max_lines=3, placeholder=" …")) or label


def room(labels: Iterable[str]) -> float:
    """Inches that tick labels take, about: their longest line at 9 points, and the tick."""
    lines = [line for label in labels for line in label.split("\n")]
    return 0.077 * max(map(len, lines), default=0) + 0.15


def legend_room(labels: Iterable[str]) -> float:
    """Inches that a legend of these labels takes at the bottom."""
    known = set(labels)
    return 0.185 * -(-len(known) // _legend_columns(known)) + 0.1


def legend(figure: "Figure", axes: "Axes") -> None:
    """What the marks mean, below everything, each once."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(
        once.values(), once.keys(), loc="lower center", ncols=_legend_columns(once),
        columnspacing=1.2, handletextpad=0.4, labelspacing=0.35, borderaxespad=0.2,
    )  # fmt: skip


def _legend_columns(labels: Iterable[str]) -> int:
    """As many columns as fit, of equal width."""
    known = list(labels)
    return max(1, min(len(known), int(WIDTH / (0.073 * max(map(len, known)) + 0.42))))


def draw(
    figure: "Figure", name: str, title: str, caption: str, notes: Iterable[str] = ()
) -> Drawing:
    """Render a figure. Call it inside the `style` in which the figure was made."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(
        png, format="png", dpi=_DPI, metadata={"Software": None}, pil_kwargs={"compress_level": 4}
    )
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    inline = _inline(svg.getvalue(), name, one_line(title))
    return Drawing(name, title, caption, tuple(notes), inline, png.getvalue())


def _inline(svg: str, name: str, title: str) -> str:
    """An SVG file's element alone, with ids that no other figure of the page has, and a title for
    those who do not see it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub("<[^>]+>", lambda tag: _of_figure(tag[0], name), svg)
    head, rest = svg.split(">", 1)
    return f'{head} role="img" font-family="{_FONTS}"><title>{escape(title)}</title>{rest}'


def _of_figure(tag: str, name: str) -> str:
    """A tag, not the words between tags, with its ids made the figure's own."""
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    tag = re.sub(r'href="#', f'href="#{name}-', tag)
    return re.sub(r"font: (\S+) 'DejaVu Sans'", r"font-size: \1", tag)


def svg_file(drawing: Drawing) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n{drawing.svg}'
