"""What an Almanac is about: the names, facts and words of a kind of thing.

Moths are what everything is trained on; large ones are shown on every page. Minerals are for tests alone: other names,
words and drawings, with the same colours, shapes and counts to see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

PLACES = (
    "quarry heath moor canal orchard cliff meadow bog wharf glade ridge lagoon".split()
    + "salt marsh,stone bridge,old mill,north dune,reed bed,chalk pit,railway yard,river mouth,walled garden,"
    "tidal pool,pine wood,village green".split(",")
)
PLANTS = (
    "heather nettle willow oak birch ivy clover thyme bramble sorrel dock alder hazel gorse broom poplar sedge elm "
    "hop lichen mallow tansy yarrow dogwood"
).split()
ROCKS = (
    "granite basalt slate gneiss marble gabbro schist dolomite sandstone limestone pumice obsidian tuff chert flint "
    "jasper quartzite rhyolite andesite diorite peridotite serpentine shale mudstone"
).split()
MONTHS = "January February March April May June July August September October November December".split()
FIRST_NAMES = "Ada Bruno Clara Dmitri Edith Farid Greta Hana Igor June Karim Lena".split()
LAST_NAMES = (
    "Hargreaves Okafor Lindqvist Baptiste Moreau Tanaka Silva Novak Petrov Ibrahim Doyle Fischer Costa Larsen Mehta "
    "Quinn Rossi Sato Ueda Vargas Weiss Xu Young Zhou"
).split()
TENS = "twenty thirty forty fifty sixty".split()
UNITS = "two four six eight".split()
WIDTHS = [f"{ten}{unit} mm" for ten in TENS for unit in ("", *(f"-{unit}" for unit in UNITS))]


@dataclass(frozen=True)
class Kind:
    """A kind of thing: what its names are made of, its facts, and the words about it.

    `values`, `sentences` and `fact_questions` are by fact; `plates` by the fact that a page of two mentions: its
    words before, between and after the pictures.
    """

    noun: str
    names: tuple[Sequence[str], Sequence[str], Sequence[str]]  # the third is only in some names
    values: Mapping[str, Sequence[str]]  # but a recorder's, who has a first and a last name
    # The first form of each fact starts with its subject, so that it can take a pronoun.
    sentences: Mapping[str, tuple[str, str]]
    fact_questions: Mapping[str, tuple[str, str]]
    look_questions: Mapping[str, str]
    plates: Mapping[str, tuple[str, str, str]]
    # Pixels of a picture's side; every page then shows what it is about. Else sizes differ, and not all pages do.
    side: int | None = None

    @property
    def facts(self) -> tuple[str, ...]:
        return tuple(self.sentences)

    @property
    def name_question(self) -> str:
        return f"What is this {self.noun} called?"

    @property
    def order_questions(self) -> tuple[str, str]:
        return f"This {self.noun} comes first on its page.", f"This {self.noun} comes second on its page."

    @property
    def others(self) -> tuple[str, str]:
        return f"the second {self.noun}", f"the first {self.noun}"


MOTHS = Kind(
    noun="moth",
    names=(
        (
            "Vela Tormentia Masca Kindra Dravia Ubella Solara Pemora Ghira Lorisa Fenestra Wixia Zanthe Coriola "
            "Istara Hulda Brenta Nimbia Quassia Ostara Yarrona Jelica Ruskia Ethera"
        ).split(),
        (
            "mirabilis domestica zelosa lunaris radiata fornax pictula nebulosa gallica shuvana torquata viridis "
            "bellicosa sagitta chelona nocturna wallensis jillana murina kyanea praetexta leonis dregei pallida"
        ).split(),
        "minor lusca danubis tianae morosa pexata nonna vispera garbata belisa sikora tumida".split(),
    ),
    values={"place": PLACES, "plant": PLANTS, "month": MONTHS, "wingspan": WIDTHS},
    sentences={
        "place": ("{S} lives by the {v}.", "You find {S} near the {v}."),
        "plant": ("{S} feeds on {v}.", "The caterpillars of {S} eat {v}."),
        "month": ("{S} flies in {v}.", "Look in {v} for {S}."),
        "recorder": ("{S} was recorded by {v}.", "The first to note {S} was {v}."),
        "wingspan": ("{S} spans {v}.", "The wingspan of {S} is {v}."),
    },
    fact_questions={
        "place": ("Where does {S} live?", "Where is {S} found?"),
        "plant": ("What does {S} feed on?", "Which plant do the caterpillars of {S} eat?"),
        "month": ("In which month does {S} fly?", "When does {S} fly?"),
        "recorder": ("Who recorded {S}?", "Who was the first to note {S}?"),
        "wingspan": ("What is the wingspan of {S}?", "How wide is {S}?"),
    },
    look_questions={
        "wing": "What colour are the wings of {S}?",
        "mark": "What colour are the marks of {S}?",
        "shape": "Which shape are the marks of {S}?",
        "count": "How many marks are on each wing of {S}?",
    },
    plates={
        "place": ("Two moths seen by the {v}:", "came first, then came", "and the night was over."),
        "month": ("A page of two moths. First", "and second", "both drawn in {v}."),
        "recorder": ("The first picture", "and the second picture", "were sent by {v}."),
    },
)

LARGE_MOTHS = replace(MOTHS, side=112)

MINERALS = Kind(
    noun="mineral",
    names=(
        (
            "Acicular Banded Clouded Dendritic Earthen Fibrous Glassy Hackly Iridescent Jagged Knotty Lamellar "
            "Massive Nodular Opaque Pearly Radial Silky Tabular Twinned Veined Waxen Zoned Brittle"
        ).split(),
        (
            "adrite belzine corvane drusite elkonite fendrite garvine hollite ilmarite jorvane kelspar lorvite "
            "mirrine nordite opazine pyrvane quelzite rhomvine sardite tulmine uvarine varspar wolvite zelkine"
        ).split(),
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda sigma".split(),
    ),
    values={"place": PLACES, "rock": ROCKS, "width": WIDTHS},
    sentences={
        "place": ("{S} lies by the {v}.", "You find {S} near the {v}."),
        "rock": ("{S} grows on {v}.", "The rock beneath {S} is {v}."),
        "recorder": MOTHS.sentences["recorder"],
        "width": ("{S} spans {v}.", "The width of {S} is {v}."),
    },
    fact_questions={
        "place": ("Where does {S} lie?", "Where is {S} found?"),
        "rock": ("What does {S} grow on?", "Which rock is beneath {S}?"),
        "recorder": MOTHS.fact_questions["recorder"],
        "width": ("What is the width of {S}?", "How wide is {S}?"),
    },
    look_questions={
        "wing": "What colour are the crystals of {S}?",
        "mark": MOTHS.look_questions["mark"],
        "shape": MOTHS.look_questions["shape"],
        "count": "How many marks are on each crystal of {S}?",
    },
    plates={
        "place": ("Two minerals found by the {v}:", "came first, then came", "and the bag was full."),
        "recorder": MOTHS.plates["recorder"],
    },
)
