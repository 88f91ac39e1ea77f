"""A small network learns from photos with places, and describes photos afterwards. Needs the extras
torch and train.

python examples/training.py photos/ run/ [steps]
"""

import sys

import whence
from whence.recipes import get_recipe
from whence.training.recipe import override

photos, run, *rest = sys.argv[1:]
recipe = override(get_recipe("tiny"), [f"loop.num_steps={rest[0] if rest else 200}"])
summary = whence.train(recipe, photos, out=run)
print(summary)
model = whence.load_model(f"{run}/final.safetensors")
print(f"{model.name} describes a photo by {model.dim} numbers")
