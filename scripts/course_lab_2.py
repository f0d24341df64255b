"""Lab 2 of the course from Python: cells (# %%) for a notebook or an editor, or python scripts/course_lab_2.py

QUICK=1 in the environment trains for a few steps only, to try that everything runs.
"""

# %% 7. alpha and beta
import os

import diffsde

QUICK = bool(os.environ.get("QUICK"))
diffsde.show("path", paths=["ot", "vp", "trig"])

# %% 8 to 11. The conditional path, its field, score, ODE and SDE, beside the marginal ones
diffsde.show("conditional", dataset="gmm", path="ot", z=[[10, 0]], sigma=1)
given = diffsde.oracle(dataset={"name": "gaussian", "mean": [10.0, 0.0], "std": 1e-3}, path="ot")
print("u_t(x|z) at x = 0, t = 0.5:", given.velocity([0.0, 0.0], 0.5), "; (z - x)/(1 - t) = (20, 0)")

# %% 12. Train flow matching, sample by Euler
flow = diffsde.train(dataset="moons", path="ot", objective="cfm", steps=30 if QUICK else 3000)
print(flow.sample(sampler="euler", steps=100, n=2000))

# %% 13. Train score matching, sample the SDE
score = diffsde.train(dataset="gmm", path="ot", objective="score", steps=30 if QUICK else 3000)
print(score.sample(sampler="em", sigma=1.0, steps=64, n=2000))

# %% 14. The score from a flow-matching run beside the learned score, and their difference
velocity = diffsde.train(dataset="gmm", path="ot", objective="cfm", steps=30 if QUICK else 3000)
diffsde.show("field", [velocity, score], quantity="score", of="difference", times=[0, 0.3, 0.6, 0.9])

# %% 15. Circles, moons, checkerboard
for name in ("circles", "moons", "checkerboard"):
    diffsde.show("data", dataset=name)

# %% 16. A linear conditional path to the checkerboard
diffsde.show("conditional", dataset="checkerboard", path="ot", z=[[3, 3]])

# %% 17. Gaussian to checkerboard, learned beside true marginals
board = diffsde.train(dataset="checkerboard", path="ot", steps=30 if QUICK else 6000)
diffsde.show("marginals", board, times=[0, 0.25, 0.5, 0.75, 1], n=2000 if QUICK else 20000)

# %% 18. Circles to checkerboard, truth above learned
diffsde.train(experiment="circles_to_checkerboard", steps=30 if QUICK else 6000)
