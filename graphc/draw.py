"""Pictures: a graph as boxes and arrows, and a training run as its loss and its way downhill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphc.ir import Array, Node, Parameter, toposort
from graphc.types import GraphcError

__all__ = ["draw", "picture_of_training", "to_dot"]

_INK, _BLUE, _ORANGE = "#1b1f27", "#2f6fde", "#e8743b"


# --- the graph ----------------------------------------------------------------------------------------------
def to_dot(node: Node | Sequence[Node]) -> str:
    """The graph in Graphviz's language, operands above what reads them.

    >>> import graphc as gx
    >>> print(to_dot(-gx.input("x")))
    digraph graphc {
        node [fontname="Helvetica", shape=box, style="rounded,filled", fillcolor=white];
        n0 [label="x\\nfloat32", fillcolor="#cfe3ff"];
        n1 [label="negative\\nfloat32", peripheries=2];
        n0 -> n1;
    }
    """
    outputs = [node] if isinstance(node, Node) else list(node)
    order = toposort(outputs)
    number = {each: place for place, each in enumerate(order)}
    lines = ["digraph graphc {", '    node [fontname="Helvetica", shape=box, style="rounded,filled", fillcolor=white];']
    for each in order:
        text = repr(each.attrs["value"]) if each.op.name == "constant" else each.name or each.op.name
        label = f"{text}\n{each.type}".replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        colour = {"input": "#cfe3ff", "constant": "#eeeeee"}.get(each.op.name, "#ffe0c2" if isinstance(each, Parameter) else "")
        style = (f', fillcolor="{colour}"' if colour else "") + (", peripheries=2" if each in outputs else "")
        lines.append(f'    n{number[each]} [label="{label}"{style}];')
    for each in order:
        lines += [f"    n{number[operand]} -> n{number[each]};" for operand in each.operands]
    return "\n".join([*lines, "}"])


def draw(node: Node | Sequence[Node], path: str | Path) -> Path:
    """Write the graph of one or more nodes to ``path``: .dot needs nothing; .svg, .png, .pdf need Graphviz."""
    target = Path(path)
    text = to_dot(node)
    if target.suffix in (".dot", ".gv"):
        target.write_text(text + "\n")
        return target
    if not target.suffix:
        raise GraphcError(f"draw: {str(target)!r} has no suffix to say what to draw; use .svg, .png, .pdf or .dot")
    try:
        import graphviz  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError(f"drawing a {target.suffix} needs `pip install 'graphc[draw]'`; a .dot file needs nothing") from error
    try:
        graphviz.Source(text).render(outfile=target, cleanup=True)
    except graphviz.ExecutableNotFound as error:
        raise GraphcError(
            f"drawing a {target.suffix} needs the program `dot` (`apt install graphviz`); a .dot file needs nothing"
        ) from error
    except ValueError as error:
        raise GraphcError(f"draw: {error}") from error
    return target


# --- a training run -------------------------------------------------------------------------------------------
def picture_of_training(
    path: Path, losses: Array, reference: Array, steps_per_epoch: float,
    axes: tuple[Array, Array], surface: Array, way: Array, title: str,
) -> None:  # fmt: skip
    """Left the loss of every step beside that of a reference, right the way (points, 2) downhill on a slice of the
    landscape: ``surface`` (len of the second axis, len of the first) is the loss at each point of it."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look: Any = {
        "font.size": 11, "axes.titlesize": 13, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8a909c", "text.color": _INK,
        "axes.labelcolor": _INK, "xtick.color": "#555b66", "ytick.color": "#555b66",
    }  # fmt: skip
    with mpl.rc_context(look):
        figure = Figure(figsize=(13.5, 6), dpi=130, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.12))
        _loss_curve(left, losses, reference, steps_per_epoch)
        _descent(figure, right, axes, surface, way)
        figure.suptitle(title, fontsize=14, x=0.012, ha="left", color=_INK)
        engine: Any = figure.get_layout_engine()
        engine.set(w_pad=0.12, h_pad=0.1)
        figure.savefig(path)


def _loss_curve(axes: Any, losses: Array, reference: Array, steps_per_epoch: float) -> None:
    import numpy as np

    epoch = np.arange(len(losses)) / steps_per_epoch
    width = max(1, round(steps_per_epoch))
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    middle = (np.arange(len(smooth)) + (width - 1) / 2) / steps_per_epoch
    axes.semilogy(epoch, losses, color=_BLUE, alpha=0.28, lw=0.7, label="graphc, each step")
    axes.semilogy(middle, smooth, color=_BLUE, lw=2.4, label="graphc, mean over an epoch")
    smooth = np.convolve(reference, np.ones(width) / width, "valid")
    axes.semilogy(middle, smooth, color=_INK, lw=1.2, ls=(0, (4, 4)), label="NumPy by hand, the same mean")
    axes.set(title="The loss", xlabel="epoch", ylabel="training loss", xlim=(0, epoch[-1]))
    axes.grid(True, which="major", color="#e6e8ec", lw=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper right")


def _descent(figure: Any, axes: Any, grid: tuple[Array, Array], surface: Array, way: Array) -> None:
    import numpy as np
    from matplotlib.colors import LogNorm
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    levels = np.geomspace(surface.min(), surface.max(), 40)
    norm = LogNorm(levels[0], levels[-1])
    filled = axes.contourf(*grid, surface, levels=levels, norm=norm, cmap="viridis_r")
    axes.contour(*grid, surface, levels=levels[::4], colors="white", linewidths=0.6, alpha=0.55)
    halo = [withStroke(linewidth=4, foreground="white")]
    axes.plot(*way.T, color=_ORANGE, lw=2, path_effects=halo, solid_capstyle="round")
    for point, name, marker, size in ((way[0], "start", "o", 9), (way[-1], "trained", "*", 16)):
        axes.plot(*point, marker=marker, ms=size, color=_ORANGE, mec="white", mew=1.4, zorder=5)
        axes.annotate(
            name, point, xytext=(0, -20), textcoords="offset points", ha="center", fontweight="bold", color=_INK,
            path_effects=halo, zorder=6,
        )
    axes.set(
        title="The way downhill", xlabel="first principal direction of the weights' path", ylabel="second principal direction"
    )
    axes.set_aspect("equal", adjustable="box")
    bar = figure.colorbar(filled, ax=axes, label="training loss", pad=0.02, shrink=0.92)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(ScalarFormatter())
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
