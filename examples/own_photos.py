"""Where was this photo taken? A folder of photos whose places are known is asked about another
photo.

python examples/own_photos.py photos/ where.jpg [city.whence]
"""

import sys

import whence

photos, query, *rest = sys.argv[1:]
# Running this again describes only what is new; the database stays in its folder.
localizer = whence.Localizer.build(photos, path=rest[0] if rest else "city.whence")
answer = localizer.locate(query)
if answer.point is None:
    print(f"unknown: {answer.reason}")
else:
    sure = (
        "not verified"
        if answer.confidence is None
        else f"right with probability {answer.confidence:.2f}"
    )
    print(f"{answer.point.lat:.6f}, {answer.point.lon:.6f} ({sure})")
for candidate in answer.candidates[:3]:
    print(
        f"{candidate.rank}. {candidate.photo}: similarity {candidate.similarity:.3f}, "
        f"{candidate.num_inliers} points in common"
    )
