"""The canaries: lies that were believed somewhere, each one edit away from a claim that is proved.

Each says the lie in a sentence and where it comes from: a published erratum, a shipped bug, a student's classic.
`verify.canaries` explains the edits.
"""

from __future__ import annotations

from verify.aviary.chains import CHAINS
from verify.aviary.continuous import CONTINUOUS
from verify.aviary.judges import JUDGES
from verify.aviary.laws import LAWS

CANARIES = {canary.name: canary for canary in (*LAWS, *CHAINS, *CONTINUOUS, *JUDGES)}
