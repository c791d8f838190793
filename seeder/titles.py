"""Invented titles for the synthetic catalogue: readable, unique, the same for the same seed."""

from collections.abc import Iterator

import numpy as np

WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Adventure": (
        ("Amber", "Distant", "Last", "Northern", "Restless", "Salt", "Sunken", "Uncharted", "Wandering", "Windward"),
        ("Caravan", "Compass", "Expedition", "Harbour", "Island", "Meridian", "Passage", "Reef", "Summit", "Voyage"),
    ),
    "Comedy": (
        ("Accidental", "Awkward", "Cheerful", "Crooked", "Impossible", "Improper", "Reluctant", "Spotted", "Tipsy",
         "Unlikely"),
        ("Baker", "Butler", "Cousin", "Dinner", "Landlord", "Neighbour", "Parrot", "Picnic", "Umbrella", "Wedding"),
    ),
    "Crime": (
        ("Borrowed", "Cold", "Forged", "Hidden", "Missing", "Quiet", "Second", "Sealed", "Stolen", "Unsigned"),
        ("Alibi", "Confession", "Envelope", "Ledger", "Locksmith", "Motive", "Portrait", "Suspect", "Verdict",
         "Witness"),
    ),
    "Drama": (
        ("Broken", "Empty", "Fragile", "Long", "Patient", "Slow", "Tender", "Unspoken", "Winter", "Yellow"),
        ("Afternoon", "Farewell", "Goodbye", "Homecoming", "House", "Inheritance", "Letter", "Promise", "River",
         "Table"),
    ),
    "Fantasy": (
        ("Ashen", "Crowned", "Elder", "Enchanted", "Glass", "Hollow", "Moonlit", "Silver", "Thorned", "Wild"),
        ("Covenant", "Crown", "Dragon", "Forest", "Gate", "Kingdom", "Oracle", "Sorcerer", "Throne", "Tower"),
    ),
    "History": (
        ("Ancient", "Bronze", "Carved", "Fallen", "Forgotten", "Gilded", "Imperial", "Iron", "Marble", "Painted"),
        ("Chronicle", "Citadel", "Dynasty", "Empress", "Envoy", "Legion", "Manuscript", "Monastery", "Republic",
         "Siege"),
    ),
    "Music": (
        ("Autumn", "Blue", "Electric", "Golden", "Midnight", "Muted", "Open", "Radiant", "Scarlet", "Velvet"),
        ("Ballad", "Cadence", "Chorus", "Encore", "Melody", "Nocturne", "Overture", "Rhapsody", "Serenade", "Waltz"),
    ),
    "Nature": (
        ("Deep", "Emerald", "Feathered", "Frozen", "Green", "High", "Misty", "Secret", "Tidal", "Verdant"),
        ("Canopy", "Glacier", "Lagoon", "Meadow", "Migration", "Moor", "Orchard", "Savanna", "Valley", "Wetland"),
    ),
    "Romance": (
        ("Crimson", "Endless", "Faithful", "First", "Gentle", "Lavender", "Moonstruck", "Starlit", "Summer", "Sweet"),
        ("Courtship", "Dance", "Heart", "Kiss", "Longing", "Proposal", "Reunion", "Rose", "Suitor", "Vow"),
    ),
    "Science Fiction": (
        ("Binary", "Celestial", "Final", "Infinite", "Lunar", "Orbital", "Parallel", "Quantum", "Solar", "Synthetic"),
        ("Beacon", "Colony", "Drift", "Engine", "Frontier", "Horizon", "Paradox", "Probe", "Signal", "Station"),
    ),
}  # fmt: skip
"""Of each genre, ten words to begin a title with and ten to end it."""

PLACES = (
    "Alder Bay", "Brindle Hill", "Castle Rook", "Dunmere", "Eastwick Fen", "Fallow Green", "Greyhaven", "Hartwell",
    "Ivy Crossing", "Juniper Falls", "Kestrel Point", "Larkfield", "Marrow Bridge", "Nettle Row", "Oakhollow",
    "Pebble Quay", "Quillon", "Ravenmoor", "Stonebrook", "Thistledown", "Umberley", "Vesper Lake", "Willowmere",
    "Yarrow Heath",
)  # fmt: skip

MOST_SERIES_A_GENRE = 100 * (1 + len(PLACES))

_NUMERALS = ("", "", " II", " III", " IV", " V", " VI")


def series_titles(genre: str, rng: np.random.Generator) -> Iterator[str]:
    """Yield the genre's MOST_SERIES_A_GENRE titles, each once: the short ones first, in an order that `rng` decides."""
    beginnings, endings = WORDS[genre]
    pairs = [f"The {beginning} {ending}" for beginning in beginnings for ending in endings]
    for place in ("", *PLACES):
        for index in np.argsort(rng.random(len(pairs)), kind="stable"):
            yield f"{pairs[index]} of {place}" if place else pairs[index]


def part_title(series: str, part: int) -> str:
    """Return the title of a series' `part`, counted from 1: `The Salt Voyage`, `The Salt Voyage II`..."""
    return series + _NUMERALS[part]
