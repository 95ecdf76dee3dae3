"""What people see: lecture scenes driven by proved formulas and by closed-form truth.

A scene types no formula and no constant. Its formulas are exports of proved claims (`formula`), its curves are the
same claims evaluated (`formula.curve`), its particles are arrays computed once and kept by content (`arrays`). The claim's id and
short hash stand in the corner of every frame.

`catalog` lists the scenes without importing manim; `render` renders them in worker processes.
"""
