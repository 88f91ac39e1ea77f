"""Which of two models is better on a set with database/ and queries/, and by how much?

python examples/benchmark.py set/ rootsift-vlad densevlad
"""

import sys

import whence
from whence.evaluation.comparison import compare

data, *models = sys.argv[1:]
results = [whence.evaluate(model, data) for model in models]
for result in results:
    print(result)
for one in compare(results).differences:
    if one.n == 1:
        change = one.difference
        print(
            f"recall@1 of {one.first} less that of {one.second}: {100 * change.value:+.1f} points "
            f"(95 % interval {100 * change.low:+.1f} to {100 * change.high:+.1f}, p {change.p:.3f})"
        )
