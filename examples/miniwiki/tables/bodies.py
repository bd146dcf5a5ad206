"""Planets, dwarf planets and large moons of the Solar System."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Body:
    """One body.

    `diameter_km` is the mean diameter, `orbit_days` the time of one circuit around `parent`, and
    `distance_mkm` the mean distance from it in millions of kilometres.
    """

    name: str
    title: str
    kind: str
    parent: str
    diameter_km: int | None
    orbit_days: float | None
    distance_mkm: float | None
    discoverers: tuple[str, ...]
    discovered: int | None
    named_after: str
    notes: tuple[str, ...]


# fmt: off
BODIES: tuple[Body, ...] = (
    Body("Mercury", "Mercury (planet)", "planet", "Sun", 4879, 88.0, 57.9, (), None,
        "the Roman messenger god",
        ("It is the smallest of the eight planets and the one closest to the Sun.",
         "Its surface is covered with craters, and it has almost no atmosphere.",
         "It has no moons.")),
    Body("Venus", "Venus", "planet", "Sun", 12104, 224.7, 108.2, (), None,
        "the Roman goddess of love",
        ("It is the hottest of the planets, about 465 degrees Celsius at the surface.",
         "Its dense atmosphere consists mostly of carbon dioxide.",
         "It rotates in the direction opposite to that of most planets.", "It has no moons.")),
    Body("Earth", "Earth", "planet", "Sun", 12742, 365.3, 149.6, (), None,
        "the ground, by an old Germanic word",
        ("It is the only place in the universe where life is known to exist.",
         "Water covers about 71 percent of its surface.",
         "It has one natural satellite, the Moon.")),
    Body("Mars", "Mars", "planet", "Sun", 6779, 687.0, 227.9, (), None, "the Roman god of war",
        ("Its red colour comes from iron oxide in its soil.",
         "Olympus Mons, the tallest volcano known on any planet, stands on it.",
         "It has two small moons, Phobos and Deimos.")),
    Body("Jupiter", "Jupiter", "planet", "Sun", 139820, 4333, 778.5, (), None,
        "the king of the Roman gods",
        ("It is the largest planet of the Solar System.",
         "The Great Red Spot on it is a storm wider than the Earth.",
         "It consists mostly of hydrogen and helium.")),
    Body("Saturn", "Saturn", "planet", "Sun", 116460, 10759, 1433.5, (), None,
        "the Roman god of agriculture",
        ("It is best known for its bright rings, which consist mostly of water ice.",
         "Its average density is lower than that of water.",
         "It consists mostly of hydrogen and helium.")),
    Body("Uranus", "Uranus", "planet", "Sun", 50724, 30687, 2870, ("William Herschel",), 1781,
        "the Greek god of the sky",
        ("Its axis is tilted so far that it seems to roll along its orbit.",
         "It was the first planet to be found with a telescope.",
         "Its pale blue-green colour is due to methane.")),
    Body("Neptune", "Neptune", "planet", "Sun", 49244, 60190, 4500, ("Johann Gottfried Galle",),
        1846, "the Roman god of the sea",
        ("Its position was predicted by calculation before it was seen.",
         "Its winds are the fastest known in the Solar System.",
         "It is the most distant of the eight planets.")),
    Body("Ceres", "Ceres (dwarf planet)", "dwarf planet", "Sun", 940, 1682, 414,
        ("Giuseppe Piazzi",), 1801, "the Roman goddess of grain",
        ("It is the largest object of the asteroid belt between Mars and Jupiter.",
         "The Dawn spacecraft began to orbit it in 2015.")),
    Body("Pluto", "Pluto", "dwarf planet", "Sun", 2377, 90560, 5906, ("Clyde Tombaugh",), 1930,
        "the Roman god of the underworld",
        ("It was counted as the ninth planet until 2006.",
         "The New Horizons spacecraft flew past it in 2015.", "Its largest moon is Charon.")),
    Body("Haumea", "Haumea", "dwarf planet", "Sun", None, None, None, (), 2004,
        "the Hawaiian goddess of childbirth",
        ("It spins once in about four hours, and this rapid rotation has stretched its shape.",
         "It has two known moons and a ring.")),
    Body("Makemake", "Makemake", "dwarf planet", "Sun", 1430, None, None,
        ("Michael E. Brown", "Chad Trujillo", "David Rabinowitz"), 2005,
        "the creator god of Easter Island",
        ("It is one of the brightest objects of the Kuiper belt.",)),
    Body("Eris", "Eris", "dwarf planet", "Sun", 2326, None, None,
        ("Michael E. Brown", "Chad Trujillo", "David Rabinowitz"), 2005,
        "the Greek goddess of strife",
        ("It is more massive than Pluto.",
         "Its discovery led astronomers to define what a planet is in 2006.")),
    Body("Moon", "Moon", "moon", "Earth", 3474, 27.3, 0.3844, (), None, "an old Germanic word",
        ("People first walked on it in 1969, during the Apollo 11 mission.",
         "It always turns the same side to the Earth.",
         "Its pull is the main cause of the tides.")),
    Body("Phobos", "Phobos (moon)", "moon", "Mars", None, 0.32, 0.0094, ("Asaph Hall",), 1877,
        "a Greek god of fear",
        ("It circles its planet faster than the planet turns.",
         "It is the larger of the two moons of its planet.")),
    Body("Deimos", "Deimos (moon)", "moon", "Mars", None, 1.26, 0.0235, ("Asaph Hall",), 1877,
        "a Greek god of dread", ("It is the smaller of the two moons of its planet.",)),
    Body("Io", "Io (moon)", "moon", "Jupiter", 3643, 1.77, 0.4217, ("Galileo Galilei",), 1610,
        "a lover of Zeus in Greek mythology",
        ("It is the most volcanically active body of the Solar System.",)),
    Body("Europa", "Europa (moon)", "moon", "Jupiter", 3122, 3.55, 0.6711, ("Galileo Galilei",),
        1610, "a lover of Zeus in Greek mythology",
        ("An ocean of liquid water is thought to lie under its icy crust.",)),
    Body("Ganymede", "Ganymede (moon)", "moon", "Jupiter", 5268, 7.15, 1.0704,
        ("Galileo Galilei",), 1610, "the cupbearer of the Greek gods",
        ("It is the largest moon of the Solar System, larger than the planet Mercury.",
         "It is the only moon known to have a magnetic field of its own.")),
    Body("Callisto", "Callisto (moon)", "moon", "Jupiter", 4821, 16.69, 1.8827,
        ("Galileo Galilei",), 1610, "a nymph of Greek mythology",
        ("Its surface is among the most heavily cratered of the Solar System.",)),
    Body("Amalthea", "Amalthea (moon)", "moon", "Jupiter", None, 0.50, 0.1814,
        ("Edward Emerson Barnard",), 1892, "the goat that nursed Zeus",
        ("It was the last moon to be discovered by eye rather than by photography.",)),
    Body("Mimas", "Mimas (moon)", "moon", "Saturn", 396, 0.94, 0.1855, ("William Herschel",), 1789,
        "a giant of Greek mythology",
        ("The crater Herschel is almost a third as wide as the moon itself.",)),
    Body("Enceladus", "Enceladus", "moon", "Saturn", 504, 1.37, 0.2380, ("William Herschel",),
        1789, "a giant of Greek mythology",
        ("Jets of water vapour and ice rise from cracks near its south pole.",)),
    Body("Tethys", "Tethys (moon)", "moon", "Saturn", 1062, 1.89, 0.2946,
        ("Giovanni Domenico Cassini",), 1684, "a Titan of Greek mythology",
        ("It consists almost entirely of water ice.",)),
    Body("Dione", "Dione (moon)", "moon", "Saturn", 1123, 2.74, 0.3774,
        ("Giovanni Domenico Cassini",), 1684, "a Titan of Greek mythology",
        ("Bright cliffs of ice mark one of its hemispheres.",)),
    Body("Rhea", "Rhea (moon)", "moon", "Saturn", 1527, 4.52, 0.5271,
        ("Giovanni Domenico Cassini",), 1672, "the mother of Zeus in Greek mythology",
        ("It is the second largest moon of its planet.",)),
    Body("Titan", "Titan (moon)", "moon", "Saturn", 5150, 15.95, 1.2219, ("Christiaan Huygens",),
        1655, "the Titans of Greek mythology",
        ("It is the only moon with a dense atmosphere, made mostly of nitrogen.",
         "Lakes of liquid methane and ethane lie on its surface.",
         "The Huygens probe landed on it in 2005.")),
    Body("Iapetus", "Iapetus (moon)", "moon", "Saturn", 1469, 79.3, 3.5608,
        ("Giovanni Domenico Cassini",), 1671, "a Titan of Greek mythology",
        ("One of its halves is dark and the other bright.",)),
    Body("Miranda", "Miranda (moon)", "moon", "Uranus", 472, 1.41, 0.1299, ("Gerard Kuiper",),
        1948, "a character in The Tempest by Shakespeare",
        ("A cliff on it, Verona Rupes, may be the tallest of the Solar System.",)),
    Body("Ariel", "Ariel (moon)", "moon", "Uranus", 1158, 2.52, 0.1909, ("William Lassell",), 1851,
        "a spirit in The Tempest by Shakespeare",
        ("Its surface is the brightest among the moons of its planet.",)),
    Body("Umbriel", "Umbriel (moon)", "moon", "Uranus", 1169, 4.14, 0.2660, ("William Lassell",),
        1851, "a sprite in a poem by Alexander Pope",
        ("Its surface is the darkest among the large moons of its planet.",)),
    Body("Titania", "Titania (moon)", "moon", "Uranus", 1577, 8.71, 0.4363, ("William Herschel",),
        1787, "the queen of the fairies in A Midsummer Night's Dream",
        ("It is the largest moon of its planet.",)),
    Body("Oberon", "Oberon (moon)", "moon", "Uranus", 1523, 13.46, 0.5835, ("William Herschel",),
        1787, "the king of the fairies in A Midsummer Night's Dream",
        ("It is the outermost of the five large moons of its planet.",)),
    Body("Triton", "Triton (moon)", "moon", "Neptune", 2707, 5.88, 0.3548, ("William Lassell",),
        1846, "a son of Poseidon in Greek mythology",
        ("It circles its planet against the direction of the planet's rotation.",
         "Geysers of nitrogen were seen on it by Voyager 2 in 1989.")),
    Body("Charon", "Charon (moon)", "moon", "Pluto", 1212, 6.39, 0.0196, ("James W. Christy",),
        1978, "the ferryman of the dead in Greek mythology",
        ("It is more than half as wide as the body that it circles.",)),
)
# fmt: on
