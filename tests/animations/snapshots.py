"""Makes snapshots.npz: the last frame of every play, small and grey. Look at the scenes before running it."""

import numpy as np
from test_scenes import SNAPSHOTS, play_through

from animations import catalog

if __name__ == "__main__":
    np.savez_compressed(SNAPSHOTS, **{row.name: play_through(row)[2] for row in catalog.SCENES})
    print(f"{SNAPSHOTS}: {SNAPSHOTS.stat().st_size} bytes")
