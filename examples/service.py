"""Photos are asked about at a running service: whence serve --db city.whence

python examples/service.py http://127.0.0.1:8600 where.jpg [more.jpg ...]
"""

import sys

from whence.server.client import Client

url, *photos = sys.argv[1:]
client = Client(url)
for database in client.databases():
    print(f"{database['name']}: {database['num_photos']} photos")
for photo, answer in zip(photos, client.locate(*photos, options={"k": 5}), strict=True):
    print(f"{photo}: {answer.status}, {answer.point or answer.reason}")
