"""Rows in the shapes that public sets have on the Hub, about imaginary moths."""

from typing import Any

HOTPOT: dict[str, Any] = {
    "id": "5a7a0693",
    "question": "In which country does the moth named after Ada Holm live?",
    "answer": "Norland",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": {"title": ["Vela mirabilis", "Ada Holm", "Vela mirabilis"], "sent_id": [0, 0, 1]},
    "context": {
        "title": ["Ada Holm", "Masca lunaris", "Vela mirabilis"],
        "sentences": [
            ["Ada Holm drew moths.", " She never left Norland."],
            ["Masca lunaris feeds on oak."],
            ["Vela mirabilis is named after Ada Holm.", " It lives in Norland."],
        ],
    },
}
TWO_WIKI = HOTPOT | {
    "id": "b088d3ca08e2",
    "type": "comparison",
    "evidences": [["Vela mirabilis", "named after", "Ada Holm"]],
}
MUSIQUE: dict[str, Any] = {
    "id": "2hop__574419_270105",
    "question": "What feeds the moth that Ada Holm drew last?",
    "answer": "oak leaves",
    "answer_aliases": ["leaves of oak", "oak leaves"],
    "answerable": True,
    "question_decomposition": [
        {"id": 574419, "question": "Ada Holm >> last drawing", "answer": "Masca", "paragraph_support_idx": 1}
    ],
    "paragraphs": [
        {"idx": 0, "title": "Ada Holm", "paragraph_text": "She drew a Vela first.", "is_supporting": False},
        {"idx": 1, "title": "Ada Holm", "paragraph_text": "Her last drawing is a Masca.", "is_supporting": True},
        {"idx": 2, "title": "Masca", "paragraph_text": "A Masca eats oak leaves.", "is_supporting": True},
    ],
}
BAMBOOGLE = {"Question": "Who ruled Norland when Ada Holm was born?", "Answer": "Queen Brid"}
HUMAN: dict[str, Any] = {
    "question": "Which of the moths flies by day?",
    "question_images": [],
    "options": [],
    "answer": "The lower one.",
    "gold_doc_id": "moths/12",
    "qtype": "short",
    "qclass": "exercises",
    "question_in_gold_doc": False,
}
SCIENCE_QA: dict[str, Any] = {
    "image": None,
    "question": "Which moth is a Vela?",
    "choices": ["the left one", "the right one"],
    "answer": 1,
    "hint": "Two moths sit on a leaf.",
    "task": "closed choice",
    "grade": "grade3",
    "subject": "natural science",
    "topic": "biology",
    "category": "Animals",
    "skill": "Tell moths apart",
    "lecture": "A Vela has feathered antennae.",
    "solution": "The right one has feathered antennae.",
}
MMQA_QUESTION: dict[str, Any] = {
    "qid": "a33985b1",
    "question": "How many spots has the moth that won in 1931?",
    "answers": [{"answer": 4, "type": "string", "modality": "image", "text_instances": [], "image_instances": []}],
    "metadata": {
        "type": "Compose(ImageQ,TableQ)",
        "modalities": ["image", "table"],
        "image_doc_ids": ["991237d4"],
        "text_doc_ids": ["a7d9e635"],
        "table_id": "dcd7cb8f",
    },
    "supporting_context": [
        {"doc_id": "dcd7cb8f", "doc_part": "table"},
        {"doc_id": "991237d4", "doc_part": "image"},
    ],
}
MMQA_TEXT = {"title": "Norland Show", "url": "https://example.org/show", "id": "a7d9e635", "text": "A yearly show."}
MMQA_TABLE: dict[str, Any] = {
    "title": "Norland Show",
    "url": "https://example.org/show",
    "id": "dcd7cb8f",
    "table": {
        "table_name": "Winners",
        "header": [{"column_name": "Year", "metadata": {}}, {"column_name": "Moth", "metadata": {}}],
        "table_rows": [
            [{"text": "1930", "links": []}, {"text": "Masca\nlunaris", "links": []}],
            [{"text": "1931", "links": []}, {"text": "Vela", "links": [{"text": "Vela", "wiki_title": "Vela"}]}],
        ],
    },
}
MMQA_IMAGE = {"title": "Vela", "url": "https://example.org/vela", "id": "991237d4", "path": "991237d4.jpg"}
MME5: dict[str, Any] = {
    "qry": "<|image_1|>\nRepresent the given picture with the question: what moth is it?",
    "qry_image_path": "OK-VQA/1.jpg",
    "pos_text": "a Vela",
    "pos_image_path": "",
    "neg_text": "['a Masca', \"a moth's wing\", '']",
    "neg_image_path": "['', '', '']",
}
