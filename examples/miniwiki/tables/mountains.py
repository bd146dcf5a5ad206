"""Well-known mountains, with their first recorded ascents where these are undisputed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mountain:
    """One mountain; `height_m` is above sea level."""

    name: str
    continent: str
    height_m: int | None
    mountain_range: str | None
    countries: tuple[str, ...]
    first_ascent: int | None
    climbers: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Title of the article."""
        return self.name


# fmt: off
MOUNTAINS: tuple[Mountain, ...] = (
    Mountain("Mount Everest", "Asia", 8849, "Himalayas", ("Nepal", "China"), 1953,
        ("Edmund Hillary", "Tenzing Norgay"),
        ("It is the highest mountain of the Earth above sea level.",)),
    Mountain("K2", "Asia", 8611, "Karakoram", ("Pakistan", "China"), 1954,
        ("Achille Compagnoni", "Lino Lacedelli"),
        ("It is the second highest mountain of the Earth.",)),
    Mountain("Kangchenjunga", "Asia", 8586, "Himalayas", ("Nepal", "India"), 1955,
        ("Joe Brown", "George Band"), ("It is the third highest mountain of the Earth.",)),
    Mountain("Lhotse", "Asia", 8516, "Himalayas", ("Nepal", "China"), 1956,
        ("Ernst Reiss", "Fritz Luchsinger"), ("It is joined to Mount Everest by the South Col.",)),
    Mountain("Makalu", "Asia", 8485, "Himalayas", ("Nepal", "China"), 1955,
        ("Lionel Terray", "Jean Couzy"), ()),
    Mountain("Cho Oyu", "Asia", 8188, "Himalayas", ("Nepal", "China"), 1954,
        ("Herbert Tichy", "Joseph Jöchler", "Pasang Dawa Lama"), ()),
    Mountain("Dhaulagiri", "Asia", 8167, "Himalayas", ("Nepal",), 1960, (), ()),
    Mountain("Manaslu", "Asia", 8163, "Himalayas", ("Nepal",), 1956,
        ("Toshio Imanishi", "Gyalzen Norbu"), ()),
    Mountain("Nanga Parbat", "Asia", 8126, "Himalayas", ("Pakistan",), 1953, ("Hermann Buhl",),
        ()),
    Mountain("Annapurna", "Asia", 8091, "Himalayas", ("Nepal",), 1950,
        ("Maurice Herzog", "Louis Lachenal"),
        ("It was the first peak above 8,000 metres to be climbed.",)),
    Mountain("Aconcagua", "South America", 6961, "Andes", ("Argentina",), 1897,
        ("Matthias Zurbriggen",), ("It is the highest mountain of the Americas.",)),
    Mountain("Denali", "North America", 6190, "Alaska Range", ("United States",), 1913,
        ("Walter Harper", "Harry Karstens", "Hudson Stuck", "Robert Tatum"),
        ("It is the highest mountain of North America.",)),
    Mountain("Kilimanjaro", "Africa", 5895, None, ("Tanzania",), 1889,
        ("Hans Meyer", "Ludwig Purtscheller"), ("It is the highest mountain of Africa.",)),
    Mountain("Mount Kenya", "Africa", 5199, None, ("Kenya",), 1899,
        ("Halford Mackinder", "César Ollier", "Joseph Brocherel"), ()),
    Mountain("Mount Logan", "North America", 5959, "Saint Elias Mountains", ("Canada",), 1925, (),
        ("It is the highest mountain of Canada.",)),
    Mountain("Pico de Orizaba", "North America", 5636, None, ("Mexico",), None, (),
        ("It is the highest mountain of Mexico.",)),
    Mountain("Mount Elbrus", "Europe", 5642, "Caucasus", ("Russia",), None, (),
        ("It is the highest mountain of Russia.",)),
    Mountain("Mont Blanc", "Europe", 4806, "Alps", ("France", "Italy"), 1786,
        ("Jacques Balmat", "Michel-Gabriel Paccard"),
        ("It is the highest mountain of the Alps.",)),
    Mountain("Matterhorn", "Europe", 4478, "Alps", ("Switzerland", "Italy"), 1865,
        ("Edward Whymper",), ("Four of the seven first climbers died on the way down.",)),
    Mountain("Monte Rosa", "Europe", 4634, "Alps", ("Switzerland", "Italy"), None, (),
        ("Its highest point is the Dufourspitze.",)),
    Mountain("Eiger", "Europe", 3967, "Alps", ("Switzerland",), 1858, ("Charles Barrington",),
        ("Its north face was first climbed in 1938.",)),
    Mountain("Grossglockner", "Europe", 3798, "Alps", ("Austria",), 1800, (),
        ("It is the highest mountain of Austria.",)),
    Mountain("Zugspitze", "Europe", 2962, "Alps", ("Germany", "Austria"), 1820, ("Josef Naus",),
        ("It is the highest mountain of Germany.",)),
    Mountain("Triglav", "Europe", 2864, "Alps", ("Slovenia",), 1778, (),
        ("It is the highest mountain of Slovenia.",)),
    Mountain("Mount Etna", "Europe", None, None, ("Italy",), None, (),
        ("It is one of the most active volcanoes of Europe.",)),
    Mountain("Vesuvius", "Europe", 1281, None, ("Italy",), None, (),
        ("Its eruption in AD 79 buried Pompeii and Herculaneum.",)),
    Mountain("Mount Olympus", "Europe", 2917, None, ("Greece",), 1913,
        ("Christos Kakkalos", "Daniel Baud-Bovy", "Frédéric Boissonnas"),
        ("It is the highest mountain of Greece.",)),
    Mountain("Ben Nevis", "Europe", 1345, "Grampian Mountains", ("United Kingdom",), 1771,
        ("James Robertson",), ("It is the highest mountain of the British Isles.",)),
    Mountain("Galdhøpiggen", "Europe", 2469, "Jotunheimen", ("Norway",), 1850, (),
        ("It is the highest mountain of Norway.",)),
    Mountain("Kebnekaise", "Europe", None, "Scandinavian Mountains", ("Sweden",), 1883,
        ("Charles Rabot",), ("It is the highest mountain of Sweden.",)),
    Mountain("Teide", "Africa", 3715, None, ("Spain",), None, (),
        ("It stands on Tenerife and is the highest mountain of Spain.",)),
    Mountain("Mount Fuji", "Asia", 3776, None, ("Japan",), None, (),
        ("It is the highest mountain of Japan.", "It last erupted in 1707.")),
    Mountain("Mount Ararat", "Asia", 5137, "Armenian Highlands", ("Turkey",), 1829,
        ("Friedrich Parrot", "Khachatur Abovian"), ("It is the highest mountain of Turkey.",)),
    Mountain("Damavand", "Asia", None, "Alborz", ("Iran",), None, (),
        ("It is the highest mountain of Iran.",)),
    Mountain("Mount Kinabalu", "Asia", 4095, "Crocker Range", ("Malaysia",), None, (),
        ("It is the highest mountain of Malaysia.",)),
    Mountain("Puncak Jaya", "Oceania", 4884, None, ("Indonesia",), 1962,
        ("Heinrich Harrer", "Philip Temple", "Russell Kippax", "Albert Huizenga"),
        ("It is the highest mountain of any island.",)),
    Mountain("Aoraki / Mount Cook", "Oceania", 3724, "Southern Alps", ("New Zealand",), 1894,
        ("Tom Fyfe", "George Graham", "Jack Clarke"),
        ("It is the highest mountain of New Zealand.",)),
    Mountain("Mount Kosciuszko", "Oceania", 2228, "Snowy Mountains", ("Australia",), None, (),
        ("It is the highest mountain of mainland Australia.",)),
    Mountain("Chimborazo", "South America", None, "Andes", ("Ecuador",), 1880, ("Edward Whymper",),
        ("Its summit is the point of the surface farthest from the centre of the Earth.",)),
    Mountain("Cotopaxi", "South America", 5897, "Andes", ("Ecuador",), 1872,
        ("Wilhelm Reiss", "Ángel Escobar"), ()),
    Mountain("Ojos del Salado", "South America", 6893, "Andes", ("Argentina", "Chile"), 1937,
        ("Jan Alfred Szczepański", "Justyn Wojsznis"),
        ("It is the highest volcano of the Earth.",)),
    Mountain("Huascarán", "South America", None, "Andes", ("Peru",), None, (),
        ("It is the highest mountain of Peru.",)),
)
# fmt: on
