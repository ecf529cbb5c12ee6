"""Filters find what cannot be understood alone, and let pass what only has the words in it."""

import pytest

from dataset_builders.filters import (
    CONTEXT,
    DANGLING,
    EMPTY,
    ERRORS,
    FEW_PICTURES,
    LONG,
    RULES,
    UNMARKED,
    Draft,
    reason_against,
)


def reason(question, answer="amber", pictures=2, least=0):
    return reason_against(Draft(question, answer, pictures, least), RULES)


@pytest.mark.parametrize(
    "question",
    [
        "Who wrote the text of the national anthem of Norway?",
        "Which text editor did Bram Moolenaar write?",
        "Who is the author of Emma?",
        "Who was the first author to win two Booker prizes?",
        "Which document ended the war between Chile and Peru?",
        "In which Guardian article was the leak of 2013 first described?",
        "What is the source of the Danube called?",
        "Which R package reads text from PDF pages?",
        "What does section 230 of the Communications Decency Act protect?",
        "Which river does the site of Nineveh overlook?",
        "In which year was the first photograph of a black hole published?",
        "Which image format did Thomas Boutell design?",
        "What colour are the wings of Vela mirabilis?",
        "Which of the following is ionic: KCl, CO2 or ICl?",
        "What did Ada Moreau say she never wanted?",
        "In <image1>, which harbour is shown?",
        "What does the chart in <image2> say of rainfall in Bergen?",
        "Which of the two towns in <image1> and <image2> is older?",
        "How long should Grandma Rose's chicken pie recipe bake?",
        "Which species of moth did the students photograph near the page-turner's cottage?",
    ],
)
def test_good_questions_pass(question):
    assert reason(question) is None


@pytest.mark.parametrize(
    "question",
    [
        "According to the text, when did Ada open her bakery?",
        "What is mentioned in this document about tides?",
        "What does the author think of tides?",
        "What was the author's first job?",
        "In the passage, who opened a bakery?",
        "What is the main idea of the article?",
        "Based on the given context, what is the tide?",
        "What did he propose in 1931?",
        "How long does this recipe take?",
        "Which tool is described above?",
        "Which of the following is a moth?",
        "What is the topic of this blog post?",
        "Does the article say when Ada was born?",
        "What does the passage say about moths?",
    ],
)
def test_questions_about_their_page_are_found(question):
    assert reason(question) == CONTEXT


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is in <image3>?", DANGLING),
        ("What is in <image0>?", DANGLING),
        ("What is in <image>?", DANGLING),
        ("What is in <image one>?", DANGLING),
        ("What colour is the boat in the second photo?", UNMARKED),
        ("What is shown in the picture?", UNMARKED),
        ("What does Figure 2 show?", UNMARKED),
        ("How many people are in this image?", UNMARKED),
        ("Who is pictured above?", UNMARKED),
    ],
)
def test_pictures_that_nobody_sees_are_found(question, expected):
    assert reason(question) == expected


def test_marks_in_other_spellings_are_read():
    assert reason("What links <image 1> and <Image_2>?", least=2) is None
    assert reason("What links <image1> and <image1>?", least=2) == FEW_PICTURES
    assert reason("Which one?", answer="<image1>") == DANGLING


@pytest.mark.parametrize(("question", "answer"), [("", "x"), ("<image1>?", "x"), ("Who?", " "), ("Who?", "The.")])
def test_what_no_metric_can_score_is_empty(question, answer):
    assert reason(question, answer) == EMPTY


def test_only_refined_answers_must_be_short():
    long = Draft("When did Ada Moreau open her bakery?", "in the cold spring of 1931", 0)
    assert reason_against(long, ERRORS) is None and reason_against(long, RULES) == LONG
    assert reason("When?", "the cold spring of 1931") is None
