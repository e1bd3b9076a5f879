"""Bar charts as plain SVG."""

from collections.abc import Mapping
from html import escape

BAR, GAP, LEFT, WIDTH, RIGHT, TOP = 16, 14, 220, 460, 90, 64  # pixels
COLOURS = ("#2b6cb0", "#a0aec0", "#dd6b20")
STYLE = "font-family: system-ui, sans-serif; font-size: 12px"


def bars(title: str, unit: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Draw horizontal bars, grouped by row.

    Args:
        title: Above it all.
        unit: Of the values.
        rows: By the row's label: by the bar's name, its value. Bars of one name have one colour.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    longest = max((value for row in rows.values() for value in row.values()), default=0) or 1
    parts = [_text(12, 22, f"{title}, {unit}", "font-weight: 600; font-size: 14px")]
    for number, name in enumerate(names):
        x = LEFT + 150 * number
        parts += [_bar(x, 36, 10, 10, number), _text(x + 16, 46, name)]
    y = TOP
    for label, row in rows.items():
        parts.append(_text(LEFT - 8, y + (BAR * len(row) + 9) / 2, label, "text-anchor: end"))
        for name, value in row.items():
            length = WIDTH * value / longest
            parts += [_bar(LEFT, y, length, BAR - 2, names.index(name)), _text(LEFT + length + 6, y + 11, shown(value))]
            y += BAR
        y += GAP
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{y}" viewBox="0 0 {LEFT + WIDTH + RIGHT} {y}"'
    back = '<rect width="100%" height="100%" fill="#fff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{STYLE}">\n{back}\n' + "\n".join(parts) + "\n</svg>\n"
    )


def shown(value: float) -> str:
    """Write a value with as many digits as its size deserves."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bar(x: float, y: float, width: float, height: float, colour: int) -> str:
    fill = COLOURS[colour % len(COLOURS)]
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{fill}"/>'


def _text(x: float, y: float, text: str, style: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#1a202c"{styled}>{escape(text)}</text>'
