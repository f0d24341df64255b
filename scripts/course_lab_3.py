"""Lab 3 of the course from Python: cells (# %%) for a notebook or an editor, or python scripts/course_lab_3.py

DATASET=digits in the environment takes the small digits that need no download; QUICK=1 trains for a few steps only.
"""

# %% 19. Digits with noise, at five times
import os

import diffsde

DATASET, QUICK = os.environ.get("DATASET", "mnist"), bool(os.environ.get("QUICK"))
diffsde.show("noising", dataset=DATASET, path="ot", times=[0, 0.25, 0.5, 0.75, 1])

# %% 20. Train with label dropout
labelled = {"name": DATASET, "conditional": True}
run = diffsde.train(dataset=labelled, path="ot", net="mixer", batch_size=64, steps=20 if QUICK else 2000)

# %% 21. Guidance 1, 3, 5, and without label
print(run.sample(n=20, steps=20))
for guidance in (1, 3, 5):
    print(guidance, run.sample(guidance=guidance, labels="all", n=20, steps=20))

# %% Besides: the published 11-component experiment
print(diffsde.oracle(dataset="gmm", path="sqrt").sample(sampler="em", sigma=0.5, steps=100, n=2000))
