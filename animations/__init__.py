"""What people see: lecture scenes driven by proved formulas and by closed-form truth.

A scene types no formula and no constant. Its formulas are exports of proved claims and its curves the same claims
evaluated (`formula`), its particles are arrays computed once and kept by content (`arrays`). The ids and short hashes
of its claims stand in the corner of every frame.

`catalog` lists the scenes without importing manim; `render` renders them in worker processes.
"""
