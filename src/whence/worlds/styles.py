"""What a building looks like, before it is drawn: style families, looks drawn from them, shop
names.

Twelve families belong to every city; four more (other materials, window grids and sign alphabets)
only to test cities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Colour = tuple[int, int, int]


class Family(NamedTuple):
    """The range a group of looks is drawn from. Colours are RGB."""

    material: str
    walls: tuple[Colour, ...]
    trims: tuple[Colour, ...]
    windows: tuple[str, ...]
    width_m: tuple[float, float]
    height_m: tuple[float, float]
    gap_m: tuple[float, float]
    balcony_share: float
    alphabet: int


FAMILIES: tuple[Family, ...] = (
    Family(
        "brick",
        ((146, 74, 56), (122, 62, 50), (168, 96, 70)),
        ((214, 204, 186), (96, 60, 48)),
        ("sash",),
        (0.9, 1.2),
        (1.5, 1.9),
        (0.9, 1.6),
        0.1,
        0,
    ),
    Family(
        "stucco",
        ((226, 214, 180), (220, 190, 130), (206, 160, 120)),
        ((244, 240, 228), (150, 110, 80)),
        ("shutter", "casement"),
        (0.9, 1.2),
        (1.5, 2.0),
        (1.2, 2.0),
        0.3,
        1,
    ),
    Family(
        "stone",
        ((196, 186, 164), (176, 170, 156), (210, 196, 170)),
        ((230, 224, 208), (140, 132, 118)),
        ("casement", "arched"),
        (1.0, 1.3),
        (1.8, 2.3),
        (1.0, 1.5),
        0.45,
        1,
    ),
    Family(
        "concrete",
        ((150, 148, 142), (128, 130, 132), (170, 164, 154)),
        ((90, 92, 96), (196, 194, 188)),
        ("wide",),
        (1.8, 2.8),
        (1.2, 1.6),
        (0.3, 0.9),
        0.4,
        2,
    ),
    Family(
        "panel",
        ((206, 208, 206), (176, 190, 196), (214, 198, 176)),
        ((120, 124, 130), (60, 70, 84)),
        ("wide", "pair"),
        (1.4, 2.2),
        (1.3, 1.6),
        (0.6, 1.4),
        0.5,
        2,
    ),
    Family(
        "glass",
        ((84, 104, 118), (70, 84, 92), (100, 116, 112)),
        ((40, 46, 52), (190, 196, 200)),
        ("curtain",),
        (1.3, 1.8),
        (2.4, 2.8),
        (0.12, 0.2),
        0.0,
        3,
    ),
    Family(
        "wood",
        ((124, 146, 156), (196, 176, 128), (150, 96, 84), (220, 214, 200)),
        ((246, 244, 238), (70, 60, 54)),
        ("sash", "bay"),
        (0.9, 1.2),
        (1.4, 1.7),
        (1.0, 1.8),
        0.1,
        0,
    ),
    Family(
        "stucco",
        ((188, 104, 84), (232, 196, 96), (150, 170, 140), (120, 150, 170)),
        ((240, 236, 226), (90, 70, 60)),
        ("casement", "pair"),
        (1.0, 1.3),
        (1.4, 1.8),
        (1.1, 1.9),
        0.2,
        4,
    ),
    Family(
        "brick",
        ((176, 140, 96), (190, 158, 120), (96, 84, 78)),
        ((60, 56, 54), (226, 222, 212)),
        ("pair", "wide"),
        (1.5, 2.1),
        (1.5, 1.9),
        (0.8, 1.5),
        0.35,
        3,
    ),
    Family(
        "tile",
        ((120, 150, 156), (190, 196, 190), (150, 120, 104)),
        ((230, 230, 226), (70, 74, 78)),
        ("casement", "wide"),
        (1.1, 1.9),
        (1.3, 1.7),
        (0.9, 1.5),
        0.6,
        4,
    ),
    Family(
        "stone",
        ((150, 128, 104), (128, 118, 110), (186, 168, 140)),
        ((210, 200, 178), (96, 86, 74)),
        ("arched", "sash"),
        (1.0, 1.2),
        (1.9, 2.4),
        (1.0, 1.4),
        0.15,
        0,
    ),
    Family(
        "stucco",
        ((240, 236, 228), (226, 226, 220), (200, 206, 210)),
        ((60, 64, 70), (170, 120, 70)),
        ("french", "wide"),
        (1.1, 1.8),
        (2.0, 2.3),
        (0.9, 1.7),
        0.7,
        2,
    ),
    # Reserved for test cities.
    Family(
        "slate",
        ((96, 104, 112), (80, 84, 96), (112, 120, 116)),
        ((220, 216, 200), (160, 60, 44)),
        ("lattice", "round"),
        (1.0, 1.4),
        (1.6, 2.0),
        (1.0, 1.7),
        0.2,
        5,
    ),
    Family(
        "timber",
        ((234, 224, 202), (222, 200, 160), (206, 214, 206)),
        ((84, 56, 40), (60, 44, 36)),
        ("lattice", "casement"),
        (0.9, 1.3),
        (1.2, 1.6),
        (0.7, 1.2),
        0.1,
        5,
    ),
    Family(
        "render_bands",
        ((210, 120, 90), (140, 160, 120), (190, 180, 150)),
        ((250, 246, 236), (60, 60, 70)),
        ("round", "band"),
        (1.2, 2.2),
        (1.2, 1.5),
        (0.5, 1.0),
        0.45,
        6,
    ),
    Family(
        "metal",
        ((166, 172, 176), (146, 120, 96), (90, 110, 104)),
        ((40, 44, 48), (230, 200, 60)),
        ("band", "fins"),
        (1.6, 3.0),
        (1.4, 1.9),
        (0.3, 0.7),
        0.3,
        6,
    ),
)
NUM_COMMON_FAMILIES = 12

_SYLLABLES = (
    ("ash", "ford", "wick", "ham", "bury", "hill", "mar", "stone", "well", "brook"),
    ("mo", "ra", "li", "ven", "to", "ca", "bel", "sa", "ro", "ni"),
    ("kra", "zek", "mir", "vo", "slav", "dob", "ny", "ko", "ska", "rad"),
    ("neo", "lab", "max", "byte", "flux", "pro", "zen", "core", "air", "one"),
    ("bru", "hof", "berg", "stein", "wald", "kel", "ler", "acker", "lind", "au"),
    ("oy", "sk", "ja", "la", "hti", "nie", "mi", "vuo", "ri", "kka"),
    ("xo", "chi", "tla", "qui", "hua", "tz", "opa", "mec", "yo", "ix"),
)
_TRADES = (
    ("SHOES", "BOOKS", "BARBER", "BAKERY", "PHARMACY", "FLOWERS", "TAILOR", "HOTEL"),
    ("CAFFE", "PANE", "MODA", "BAR", "FARMACIA", "LIBRI", "HOTEL", "PIZZA"),
    ("APTEKA", "KINO", "HERBATA", "PIEKARNIA", "RADIO", "FOTO", "BANK", "SALON"),
    ("PHONES", "COFFEE", "STUDIO", "GYM", "BANK", "SUSHI", "OPTICS", "BIKES"),
    ("BROT", "UHREN", "APOTHEKE", "BIER", "OPTIK", "SCHUHE", "FRISEUR", "REISEN"),
    ("KAHVI", "KIRJAT", "KUKAT", "LEIPA", "APTEEKKI", "HATUT", "KELLOT", "KALA"),
    ("PAN", "ZAPATOS", "RELOJES", "TACOS", "LIBROS", "FRUTAS", "FOTOS", "TELAS"),
)


@dataclass(frozen=True, slots=True)
class Look:
    """The architecture of one building front. Lengths in metres, colours RGB."""

    material: str
    wall: Colour
    trim: Colour
    frame: Colour
    accent: Colour
    ground_wall: Colour
    window: str
    window_width_m: float
    window_height_m: float
    gap_m: float
    floor_m: float
    ground_m: float
    alphabet: int
    ground_use: str
    """shops, door or garage."""
    has_cornice: bool
    has_bands: bool
    has_quoins: bool
    has_pilasters: bool
    balconies: str
    """none, each, alternate, rows or loggia."""
    has_bays: bool
    recess_m: float
    panes: tuple[int, int]
    texture_seed: int


def draw_look(random: np.random.Generator, *, is_test_city: bool) -> Look:
    """A look drawn from the families the city may use. Test cities draw half of theirs from the
    reserved ones."""
    if is_test_city and random.random() < 0.5:
        family = FAMILIES[int(random.integers(NUM_COMMON_FAMILIES, len(FAMILIES)))]
    else:
        family = FAMILIES[int(random.integers(NUM_COMMON_FAMILIES))]
    wall = _vary(random, family.walls[int(random.integers(len(family.walls)))], 16)
    trim = _vary(random, family.trims[int(random.integers(len(family.trims)))], 10)
    window = family.windows[int(random.integers(len(family.windows)))]
    has_balconies = random.random() < family.balcony_share
    return Look(
        material=family.material,
        wall=wall,
        trim=trim,
        frame=_vary(
            random,
            ((238, 238, 234), (70, 60, 52), (52, 66, 60), (150, 150, 150))[int(random.integers(4))],
            12,
        ),
        accent=_vary(
            random,
            ((150, 40, 36), (36, 84, 60), (38, 62, 110), (196, 140, 40), (90, 40, 84))[
                int(random.integers(5))
            ],
            20,
        ),
        ground_wall=wall
        if random.random() < 0.5
        else _vary(
            random, ((120, 112, 100), (190, 184, 170), (80, 76, 74))[int(random.integers(3))], 14
        ),
        window=window,
        window_width_m=float(random.uniform(*family.width_m)),
        window_height_m=float(random.uniform(*family.height_m)),
        gap_m=float(random.uniform(*family.gap_m)),
        floor_m=float(random.uniform(2.9, 3.6)),
        ground_m=float(random.uniform(3.6, 4.5)),
        alphabet=family.alphabet,
        ground_use=str(random.choice(["shops", "door", "garage"], p=[0.6, 0.3, 0.1])),
        has_cornice=bool(random.random() < 0.65),
        has_bands=bool(random.random() < 0.45),
        has_quoins=bool(random.random() < 0.25),
        has_pilasters=bool(random.random() < 0.2),
        balconies=str(random.choice(["each", "alternate", "rows", "loggia"]))
        if has_balconies
        else "none",
        has_bays=bool(window == "bay" or random.random() < 0.12),
        recess_m=float(random.uniform(0.15, 0.4)),
        panes=(int(random.integers(1, 4)), int(random.integers(1, 4))),
        texture_seed=int(random.integers(2**31)),
    )


def shop_name(random: np.random.Generator, *, alphabet: int) -> str:
    """A shop's name in the syllables of an alphabet, sometimes with its trade."""
    syllables = _SYLLABLES[alphabet]
    name = "".join(
        syllables[int(k)] for k in random.integers(len(syllables), size=int(random.integers(2, 4)))
    ).upper()[:10]
    trade = _TRADES[alphabet][int(random.integers(len(_TRADES[alphabet])))]
    style = random.random()
    if style < 0.35:
        return name
    return f"{name} {trade}" if style < 0.8 and len(name) + len(trade) < 15 else trade


def _vary(random: np.random.Generator, colour: Colour, spread: int) -> Colour:
    shift = random.integers(-spread, spread + 1) + random.integers(-spread // 2, spread // 2 + 1, 3)
    r, g, b = (int(np.clip(c + s, 12, 250)) for c, s in zip(colour, shift, strict=True))
    return r, g, b
