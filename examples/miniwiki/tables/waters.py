"""Oceans, seas and lakes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Water:
    """One ocean, sea or lake; `countries` are those on the shore, given for lakes only."""

    name: str
    kind: str
    area_km2: int | None
    max_depth_m: int | None
    countries: tuple[str, ...]
    continent: str | None
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Title of the article."""
        return self.name


# fmt: off
WATERS: tuple[Water, ...] = (
    Water("Pacific Ocean", "ocean", 165200000, None, (), None,
        ("It is the largest and deepest of the oceans.",
         "Its deepest place is the Challenger Deep in the Mariana Trench.",
         "Ferdinand Magellan gave it its name in 1520.")),
    Water("Atlantic Ocean", "ocean", 106460000, None, (), None,
        ("It is the second largest of the oceans.",
         "Its deepest place is the Milwaukee Deep in the Puerto Rico Trench.")),
    Water("Indian Ocean", "ocean", 70560000, None, (), None,
        ("It is the third largest of the oceans.", "It is bounded by Africa, Asia and Australia.")),
    Water("Southern Ocean", "ocean", None, None, (), None,
        ("It surrounds Antarctica.", "It is the second smallest of the oceans.")),
    Water("Arctic Ocean", "ocean", None, None, (), None,
        ("It is the smallest and shallowest of the oceans.",
         "Much of it is covered with ice in winter.")),
    Water("Mediterranean Sea", "sea", 2500000, None, (), None,
        ("It is joined to the Atlantic Ocean by the Strait of Gibraltar.",
         "The Suez Canal joins it to the Red Sea.")),
    Water("Black Sea", "sea", 436000, None, (), None,
        ("It is joined to the Sea of Marmara by the Bosporus.",)),
    Water("Baltic Sea", "sea", 377000, None, (), None,
        ("Its water is brackish.", "It is joined to the North Sea by the Danish straits.")),
    Water("North Sea", "sea", 570000, None, (), None,
        ("It lies between Great Britain, Norway and the mainland of Europe.",)),
    Water("Red Sea", "sea", 438000, None, (), None,
        ("It lies between Africa and the Arabian Peninsula.",
         "The Suez Canal joins it to the Mediterranean Sea.")),
    Water("Caspian Sea", "lake", 371000, 1025,
        ("Russia", "Kazakhstan", "Turkmenistan", "Iran", "Azerbaijan"), None,
        ("It is the largest lake of the world by area.", "Its water is salty.")),
    Water("Lake Superior", "lake", 82100, 406, ("Canada", "United States"), "North America",
        ("It is the largest freshwater lake of the world by area.",)),
    Water("Lake Huron", "lake", 59600, 229, ("Canada", "United States"), "North America",
        ("Manitoulin Island, the largest island in a lake, lies in it.",)),
    Water("Lake Michigan", "lake", 58000, 281, ("United States",), "North America",
        ("It is the only one of the Great Lakes that lies in one country alone.",)),
    Water("Lake Erie", "lake", 25700, 64, ("Canada", "United States"), "North America",
        ("It is the shallowest of the Great Lakes.",)),
    Water("Lake Ontario", "lake", 19000, 244, ("Canada", "United States"), "North America",
        ("It is the smallest of the Great Lakes by area.",)),
    Water("Great Bear Lake", "lake", 31000, 446, ("Canada",), "North America",
        ("It is the largest lake that lies wholly in Canada.",)),
    Water("Great Slave Lake", "lake", None, 614, ("Canada",), "North America",
        ("It is the deepest lake of North America.",)),
    Water("Lake Victoria", "lake", None, 80, ("Tanzania", "Uganda", "Kenya"), "Africa",
        ("It is the largest lake of Africa by area.",
         "John Hanning Speke named it after Queen Victoria.")),
    Water("Lake Tanganyika", "lake", 32900, 1470,
        ("Tanzania", "Democratic Republic of the Congo", "Burundi", "Zambia"), "Africa",
        ("It is the second deepest lake of the world.",)),
    Water("Lake Malawi", "lake", 29600, 706, ("Malawi", "Mozambique", "Tanzania"), "Africa",
        ("It is known for its many species of cichlid fish.",)),
    Water("Lake Chad", "lake", None, None, ("Chad", "Cameroon", "Niger", "Nigeria"), "Africa",
        ("It has shrunk greatly since the 1960s.",)),
    Water("Lake Baikal", "lake", 31700, 1642, ("Russia",), "Asia",
        ("It is the deepest lake of the world.",
         "It holds about a fifth of the unfrozen fresh water of the world's surface.")),
    Water("Aral Sea", "lake", None, None, ("Kazakhstan", "Uzbekistan"), "Asia",
        ("It has shrunk since the 1960s, when rivers that fed it were diverted.",)),
    Water("Lake Balkhash", "lake", None, 26, ("Kazakhstan",), "Asia",
        ("One half of it is fresh and the other salty.",)),
    Water("Issyk-Kul", "lake", 6236, 668, ("Kyrgyzstan",), "Asia",
        ("It never freezes, although it lies among snow-covered mountains.",)),
    Water("Dead Sea", "lake", None, None, ("Israel", "Jordan"), "Asia",
        ("Its shore is the lowest land of the Earth.",
         "Its water is so salty that people float on it with ease.")),
    Water("Lake Van", "lake", 3755, None, ("Turkey",), "Asia",
        ("It is the largest lake of Turkey.",)),
    Water("Tonlé Sap", "lake", None, None, ("Cambodia",), "Asia",
        ("Its outflow changes direction twice a year.",)),
    Water("Lake Ladoga", "lake", 17700, 230, ("Russia",), "Europe",
        ("It is the largest lake that lies wholly in Europe.",)),
    Water("Lake Onega", "lake", 9700, None, ("Russia",), "Europe",
        ("It is the second largest lake that lies wholly in Europe.",)),
    Water("Vänern", "lake", 5650, 106, ("Sweden",), "Europe",
        ("It is the largest lake of Sweden.",)),
    Water("Saimaa", "lake", None, None, ("Finland",), "Europe",
        ("It is the largest lake of Finland.",)),
    Water("Lake Geneva", "lake", 580, 310, ("Switzerland", "France"), "Europe",
        ("The Rhône flows through it.",)),
    Water("Lake Constance", "lake", 536, 251, ("Germany", "Switzerland", "Austria"), "Europe",
        ("The Rhine flows through it.",)),
    Water("Lake Garda", "lake", 370, 346, ("Italy",), "Europe",
        ("It is the largest lake of Italy.",)),
    Water("Lake Balaton", "lake", 592, 12, ("Hungary",), "Europe",
        ("It is the largest lake of Central Europe.",)),
    Water("Loch Ness", "lake", 56, 230, ("United Kingdom",), "Europe",
        ("It is famed for tales of a monster.",)),
    Water("Lake Titicaca", "lake", 8372, 281, ("Peru", "Bolivia"), "South America",
        ("Its surface lies about 3,812 metres above the sea.",)),
    Water("Lake Nicaragua", "lake", 8264, 26, ("Nicaragua",), "North America",
        ("It is the largest lake of Central America.",)),
    Water("Kati Thanda–Lake Eyre", "lake", None, None, ("Australia",), "Oceania",
        ("It is the largest lake of Australia when it is full.",)),
    Water("Lake Taupō", "lake", 616, 186, ("New Zealand",), "Oceania",
        ("It is the largest lake of New Zealand and fills the caldera of a volcano.",)),
)
# fmt: on
