"""The page's font for formulas, `math.woff2`: STIX Two Math (SIL Open Font License), cut down to what formulas use.

    python -m verify.page.subset_font stix-two-math-latin-400-normal.woff2

from the npm package @fontsource/stix-two-math 5.3.0, with fonttools and brotli installed. Its MATH table, which says
how brackets grow and where scripts go, is kept; a browser without a mathematics font has none of that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset


def characters() -> set[str]:
    """ASCII, Greek, the mathematical italic alphabets, operators, and combining accents."""
    spans = ((0x20, 0x7F), (0x391, 0x3CA), (0x1D434, 0x1D468), (0x1D6A8, 0x1D7CC))
    some = "·×÷±−≤≥≠→↦∞∂∫∑∏√∈𝔼ℝ…′″∼≈≡∝⋅∘∥∣⟨⟩¯˜ˆ˙‾ϵϕϑϱℎ"
    accents = "\u0302\u0303\u0304\u0305\u0307"
    invisible = "\u2061\u2062\u2063\u200b"
    return {chr(i) for a, b in spans for i in range(a, b)} | {*some, *accents, *invisible}


def main(source: str) -> None:
    options = subset.Options(flavor="woff2", layout_features=["*"], hinting=False, drop_tables=["DSIG"])
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(characters()))
    subsetter.subset(font)
    subset.save_font(font, str(Path(__file__).with_name("math.woff2")), options)


if __name__ == "__main__":
    main(sys.argv[1])
