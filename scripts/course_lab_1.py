"""Lab 1 of the course from Python: cells (# %%) for a notebook or an editor, or python scripts/course_lab_1.py"""

# %% 1. Euler and Euler-Maruyama on any ODE and SDE: a pendulum, and one that is shaken
import numpy as np

import diffsde

pendulum = {"name": "expression", "drift": ["x2", "-sin(x1)"], "diffusion": ["0", "0"]}
for steps in (500, 1000):
    end = diffsde.simulate(process=pendulum, sampler="euler", x0=[2, 0], t_end=10, steps=steps, n=1).x[0]
    energy = end[1] ** 2 / 2 - np.cos(end[0])
    print(f"Euler, {steps} steps: the energy has grown by {energy + np.cos(2):.4f}; exactly 0")
shaken = diffsde.simulate(process=pendulum | {"diffusion": ["0", "0.3"]}, sampler="em", x0=[2, 0], t_end=10, n=500)
print(shaken)

# %% 2. Brownian motion from a point: variance sigma^2 t
for sigma in (0.3, 1.0, 3.0):
    print(sigma, diffsde.simulate(process="brownian", sigma=sigma, x0=0, t_end=5, n=2000))

# %% 3. Ornstein-Uhlenbeck: what is in the end sigma^2/(2 theta) does not depend on the start
for theta in (0.25, 1.0, 4.0):
    for sigma in (0.3, 1.0, 3.0):
        drawn = diffsde.simulate(process="ou", theta=theta, sigma=sigma, x0=[[-10], [0], [10]], t_end=5, n=3000)
        print(f"theta {theta}, sigma {sigma}: stationary variance {sigma**2 / (2 * theta):.3f}", drawn)

# %% 4. Densities, linear and logarithmic
diffsde.show("density", dataset="gmm", style="both")
diffsde.show("density", dataset="gmm", style="both", scale="log")

# %% 5. Langevin dynamics to five modes, from a wide Gaussian
law = {"name": "gmm", "components": 5, "radius": 5.0}
wide = {"name": "gaussian", "std": 8.0}
print(diffsde.simulate(process={"name": "langevin", "dataset": law}, source=wide, t_end=50, n=2000))

# %% 6. Ornstein-Uhlenbeck is Langevin dynamics of a Gaussian
ou = diffsde.simulate(process="ou", x0=[3, -1], t_end=8, n=1000)
langevin = diffsde.simulate(process="langevin", x0=[3, -1], t_end=8, n=1000)
print(f"the two ends differ by at most {np.abs(ou.x - langevin.x).max():.1e}")
