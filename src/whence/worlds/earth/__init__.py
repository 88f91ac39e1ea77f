"""The Earth world: ground with terrain, water, fields and towns, map tiles of four years, and
photos from orbit."""
