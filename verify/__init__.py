"""The meeting place: proofs against code, code against worlds, and every check against mutants.

- `rounding`      a bound on the rounding error of the torch operations that actually ran;
- `agreement`     three questions for every bound function: is it the formula, is it stable, is its gradient right;
- `code_mutants`  the bound functions broken on purpose: agreement must refute each one;
- `statistics`    tests with a stated false-fail rate and a stated detectable effect;
- `worlds`        claims about laws, held against worlds whose truth is known in closed form;
- `report`        all of it in one object.
"""
