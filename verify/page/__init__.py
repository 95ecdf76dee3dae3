"""The report as one page: every claim with its steps, its code, its worlds and its mutants, to open from a file.

`formulas` sets mathematics as MathML, `build` puts the page together; the template, its style and its script lie beside
them. The page asks for nothing: no font, script or picture comes from outside it.
"""
