"""Does a retriever learn its teacher's wording? Trained on questions by one teacher, tested on another's.

    python -m benchmarks.studies.teacher

A teacher is one of the two wordings in which every fact is asked for. Stage 2 is trained on the feedback to the
questions of one teacher, or on as many of both, and every test question is asked in both teachers' words. Stage 1 has
seen both wordings, as a retriever that was pre-trained on public pairs has.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import SHORT, Outcomes, World
from dataset_builders.almanac_kinds import MOTHS
from dataset_builders.schema import Example, QAPair, read_records, write_records
from modeling_nyx.content_nyx import Content
from nyx.ranking import top
from train_scripts.scoring import DEPTH

TEACHERS = ("A", "B")


def teacher_of(question: Content) -> str | None:
    """Tell whose words a question is in; nobody's, if it isn't about a fact."""
    for forms in MOTHS.fact_questions.values():
        for teacher, form in zip(TEACHERS, forms, strict=True):
            if any(_subject(form, item.get("text", "")) for item in question):
                return teacher
    return None


def asked_by(question: Content, teacher: str) -> Content:
    """Ask a question about a fact in a teacher's words."""
    for forms in MOTHS.fact_questions.values():
        for form in forms:
            wanted = forms[TEACHERS.index(teacher)]
            question = [
                {"type": "text", "text": wanted.format(S=subject)}
                if (subject := _subject(form, item.get("text", "")))
                else item
                for item in question
            ]
    return question


def _subject(form: str, words: str) -> str | None:
    found = re.fullmatch(re.escape(form).replace(re.escape("{S}"), "(.+)"), words)
    return found and found[1]


def examples_by(world: World, teacher: str) -> Path:
    """Write the feedback's examples on one teacher's questions, or as many on those of "both"; returns the file."""
    output = world.folder / "studies" / "teacher" / f"{teacher}.parquet"
    if not output.exists():
        every = list(read_records(Example, world.data / "feedback" / "train.parquet"))
        own = [[each for each in every if teacher_of(each.query) == name] for name in TEACHERS]
        count, rng = min(map(len, own)), Random(world.seed)
        drawn = {name: rng.sample(each, count) for name, each in zip(TEACHERS, own, strict=True)}
        drawn["both"] = [*drawn["A"][: count // 2], *drawn["B"][count // 2 :]]
        write_records(drawn[teacher], output)
    return output


def reworded(world: World, teacher: str) -> Iterator[QAPair]:
    for question in world.guide.questions:
        if teacher_of(question.question):
            yield replace(question, question=asked_by(question.question, teacher))


def measure(world: World) -> Measured:
    checkpoints = {"stage 1": "stage 1"}
    for taught in (*TEACHERS, "both"):
        checkpoints[f"taught by {taught}"] = world.align(f"teacher/{taught}", examples_by(world, taught), *SHORT)
    arms: dict[str, Outcomes] = {}
    for teacher in TEACHERS:
        asked = world.asking(list(reworded(world, teacher)))
        for name, place in checkpoints.items():
            arms[f"{name}, asked by {teacher}"] = asked.retrieved(top(*asked.embed(place), DEPTH))
    return {"arms": arms}


COMPARED = [
    (f"taught by {one}, asked by {teacher}", f"{other}, asked by {teacher}")
    for teacher in TEACHERS
    for one, other in ((teacher, f"taught by {'AB'.replace(teacher, '')}"), (teacher, "taught by both"))
]
COMPARED += [(f"taught by both, asked by {teacher}", f"stage 1, asked by {teacher}") for teacher in TEACHERS]
COMPARED += [(f"taught by {one}, asked by {one}", f"taught by {one}, asked by {other}") for one, other in ("AB", "BA")]
STUDY = Study("teacher", __doc__, measure, COMPARED, judged_by="recall@1")

if __name__ == "__main__":
    STUDY.run()
