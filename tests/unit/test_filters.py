"""Filters: what each one keeps and why it drops the rest, on chains with known answers."""

import itertools

import numpy as np
import pytest

from bard_ray.distill.build_steps import FilterStep, apply_filter, build_steps
from bard_ray.distill.distance import levenshtein_matrix
from bard_ray.distill.filter import FILTERS, Candidate, FilterContext
from bard_ray.distill.filters.diverse import farthest_points
from bard_ray.distill.filters.repetition import repeated_share
from bard_ray.distill.likelihood import sentence_probabilities
from bard_ray.distill.shingles import jaccard, ngrams, words
from bard_ray.distill.store import kept, tally
from bard_ray.errors import ConfigError, DataError
from bard_ray.records import Message, Outcome, Question


def chain(item_id="q", tokens=(1, 2, 3), text="1+1?", think="One.", answer="2", **change):
    question = Question(item_id, (Message("user", text),), "2")
    return Candidate(question, think, answer, np.array(tokens, dtype=np.int32), **change)


def reasons(name, records, params=None, context=None):
    results = FILTERS.build(name, params or {}).apply(records, context or FilterContext())
    return [reason for _, reason in results]


def test_length_counts_student_tokens_and_keeps_both_ends():
    records = [chain(tokens=range(n)) for n in (1, 2, 5, 6)]
    params = {"min_tokens": 2, "max_tokens": 5}
    assert reasons("length", records, params) == ["too_short", "", "", "too_long"]
    with pytest.raises(ConfigError, match="max_tokens must be at least 6, not 5"):
        FILTERS.build("length", {"min_tokens": 6, "max_tokens": 5})


def test_think_tags():
    records = [
        chain(),
        chain(think=" \n"),
        chain(answer=""),
        chain(think="a</think>b"),
        chain(answer="<think>again"),
    ]
    expected = ["", "no_thought", "no_answer", "stray_tag", "stray_tag"]
    assert reasons("think_tags", records) == expected
    other = FilterContext(think_open="<reason>", think_close="</reason>")
    assert reasons("think_tags", records, context=other)[3:] == ["", ""]


def test_correct_tells_wrong_from_not_graded():
    records = [chain(verdict=verdict) for verdict in (*Outcome, None)]
    expected = ["", "wrong", "unparsable", "timeout", "broken", "not_graded"]
    assert reasons("correct", records) == expected


def test_repeated_share():
    assert repeated_share(np.array([1, 2, 3, 4], dtype=np.int32), 2) == 0.0
    # 1 2 1 2 1: the pairs 12 21 12 21, two of four are new.
    assert repeated_share(np.array([1, 2, 1, 2, 1], dtype=np.int32), 2) == 0.5
    assert repeated_share(np.zeros(10, dtype=np.int32), 1) == 0.9
    assert repeated_share(np.array([1], dtype=np.int32), 2) == 0.0
    # Order counts, and an id of 0 does too.
    assert repeated_share(np.array([0, 1, 0, 0], dtype=np.int32), 2) == 0.0


def test_repetition_agrees_with_counting_tuples():
    tokens = np.random.default_rng(0).integers(6, size=500).astype(np.int32)
    grams = [tuple(tokens[i : i + 4].tolist()) for i in range(497)]
    assert repeated_share(tokens, 4) == pytest.approx(1 - len(set(grams)) / len(grams))


def test_repetition_drops_a_loop():
    text = list(range(100))
    records = [chain(tokens=text), chain(tokens=text + [7, 8, 9] * 40)]
    assert reasons("repetition", records) == ["", "repetitive"]


LONG = "A train leaves the station at 60 miles per hour and meets another train after {} hours"
DUPLICATES = [
    ("a", LONG.format(2) + ". How far apart were they?"),
    ("b", LONG.format(2).upper() + ": how far apart were they"),
    ("c", LONG.format(3) + ". How far apart were they?"),
    ("d", "Let $x^2 = \\frac{1}{4}$. Find $x$."),
    ("e", "Let x^2=\\frac{1}{4}, find \\(x\\)!"),
    ("f", "Let $x+2 = \\frac{1}{4}$. Find $x$."),
]


def test_near_duplicates_ignore_markup_but_not_numbers_or_signs():
    records = [chain(item_id, text=text) for item_id, text in DUPLICATES]
    expected = ["", "near_duplicate", "", "", "near_duplicate", ""]
    assert reasons("near_duplicates", records) == expected
    loose = reasons("near_duplicates", records, {"same_numbers": False, "min_similarity": 0.6})
    assert loose[2] == "near_duplicate"


def test_a_near_duplicate_goes_with_all_its_chains_and_chains_stay_together():
    records = [chain("a"), chain("a", tokens=[9]), chain("b"), chain("b"), chain("c", text="2+2?")]
    expected = ["", "", "near_duplicate", "near_duplicate", ""]
    assert reasons("near_duplicates", records) == expected
    with pytest.raises(DataError, match="a: its chains do not follow each other"):
        reasons("near_duplicates", [*records, chain("a")])


def test_minhash_finds_what_comparing_all_pairs_finds():
    generator = np.random.default_rng(1)
    texts: list[str] = []
    for _ in range(60):
        base = generator.integers(500, size=40)
        texts.append(" ".join(f"w{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in base))
        changed = base.copy()
        changed[: generator.integers(5)] = 499
        texts.append(" ".join(f"w{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in changed))
    kept: list[frozenset[int]] = []
    expected = []
    for text in texts:
        grams = ngrams(words(text), 3)
        double = any(jaccard(grams, other) >= 0.8 for other in kept)
        expected.append("near_duplicate" if double else "")
        kept += [] if double else [grams]
    records = [chain(str(place), text=text) for place, text in enumerate(texts)]
    assert reasons("near_duplicates", records) == expected
    assert 20 < expected.count("near_duplicate") <= 60


def test_shingles_of_a_short_text_are_the_text():
    assert words("Let $x^2=\\frac{1}{2}$, 1.5") == [
        "let",
        "x",
        "^",
        "2",
        "=",
        "frac",
        "1",
        "2",
        "1.5",
    ]
    assert len(ngrams(words("a b c d"), 3)) == 2
    assert ngrams(["a", "b"], 3) != ngrams(["b", "a"], 3)
    assert ngrams([], 3) == frozenset()
    assert jaccard(ngrams(list("abcd"), 2), ngrams(list("abcx"), 2)) == 0.5


AIME = (
    "Every morning Aya goes for a 9-kilometer-long walk and stops at a coffee shop afterward. "
    "Find the number of minutes the walk takes her, including the time spent in the coffee shop."
)
SHARED_PHRASE = (
    "Bob has some marbles and gives away a third. Find the number of minutes the walk takes her "
    "when she goes uphill twice a day through a forest with seven rivers and two bridges."
)


def test_decontamination_finds_a_question_inside_a_longer_one_but_not_a_common_phrase():
    context = FilterContext(evaluation=[AIME, "1+1?"])
    texts = [AIME.lower(), f"Think hard. {AIME} Answer in a box.", SHARED_PHRASE, "1 + 1?", "1+2?"]
    records = [chain(str(n), text=text) for n, text in enumerate(texts)]
    expected = ["in_evaluation", "in_evaluation", "", "in_evaluation", ""]
    assert reasons("decontaminate", records, context=context) == expected
    strict = reasons("decontaminate", records, {"min_share": 0.01}, context)
    assert strict[2] == "in_evaluation"
    assert reasons("decontaminate", records) == [""] * 5


def test_pass_rate():
    records = [chain(pass_rate=rate) for rate in (0.0, 0.25, 0.75, 0.8, None)]
    assert reasons("pass_rate", records) == ["", "", "", "too_easy", "not_sampled"]
    assert reasons("pass_rate", records, {"min_rate": 0.2})[0] == "too_hard"


# Diverse trajectories.
def textbook_levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_distances_of_token_ids_are_the_textbook_ones():
    pytest.importorskip("rapidfuzz")
    generator = np.random.default_rng(0)
    # Ids up to the size of a large vocabulary, more than 0xD800 different ones among them.
    long = np.arange(60_000, dtype=np.int32) + 90_000
    rows = [generator.integers(n, size=n).astype(np.int32) for n in (3, 20, 40, 65)]
    rows += [np.array([], dtype=np.int32), np.array([200_000, 0], dtype=np.int32)]
    found = levenshtein_matrix(rows)
    for i, j in itertools.product(range(len(rows)), repeat=2):
        assert found[i, j] == textbook_levenshtein(rows[i].tolist(), rows[j].tolist())
    swapped = long.copy()
    swapped[[10, 59_990]] = 5
    assert levenshtein_matrix([long, swapped, long[1:]], workers=2).tolist() == [
        [0, 2, 1],
        [2, 0, 3],
        [1, 3, 0],
    ]


def test_farthest_points_of_a_line():
    points = np.array([0, 1, 5, 10, 9])
    distances = np.abs(points[:, None] - points)
    assert farthest_points(distances, 4) == [0, 3, 2, 1]
    assert farthest_points(distances, 1) == [0]
    assert farthest_points(distances, 9) == [0, 3, 2, 1, 4]


def test_farthest_points_of_equal_points_are_the_first():
    assert farthest_points(np.zeros((4, 4)), 2) == [0, 1]
    assert farthest_points(np.zeros((1, 1)), 3) == [0]
    two = np.array([[0, 0, 3], [0, 0, 3], [3, 3, 0]])
    assert farthest_points(two, 3) == [0, 2, 1]


def test_diverse_keeps_the_chains_farthest_apart_in_their_order():
    pytest.importorskip("rapidfuzz")
    records = [
        chain("a", tokens=[1, 2, 3, 4, 5, 6]),
        chain("a", tokens=[1, 2, 3, 4, 5, 7]),
        chain("a", tokens=[9, 9, 9, 9, 9, 9]),
        chain("a", tokens=[1, 2, 3, 9, 9, 9]),
        chain("b"),
        chain("b"),
    ]
    expected = ["", "not_diverse", "", "", "", ""]
    assert reasons("diverse", records, {"keep": 3}) == expected


def test_relative_distance_does_not_favor_length():
    pytest.importorskip("rapidfuzz")
    long = list(range(100, 200))
    records = [
        chain(tokens=long),
        chain(tokens=[*long, *range(300, 330)]),  # 30 edits, 23 %
        chain(tokens=[1, 2, 3]),
        chain(tokens=[1, 2, 4]),
    ]
    assert reasons("diverse", records, {"keep": 2}) == ["not_diverse", "", "", "not_diverse"]
    params = {"keep": 3}
    # The long pair is 30 edits apart, the short pair 1; relative to length 0.23 and 0.33.
    assert reasons("diverse", records, params) == ["", "", "", "not_diverse"]
    relative = params | {"relative": True}
    assert reasons("diverse", records, relative) == ["", "not_diverse", "", ""]


# Likelihood.
def test_sentence_probabilities_are_geometric_means():
    logprobs = np.log(np.array([0.5, 0.5, 0.9, 0.1, 0.4], dtype=np.float32))
    found = sentence_probabilities(logprobs, (2, 4, 5))
    np.testing.assert_allclose(found, [0.5, 0.3, 0.4], rtol=1e-6)
    for ends in ((2, 4), (2, 2, 5), (0, 5), (6,)):
        with pytest.raises(ValueError, match="do not split 5 tokens"):
            sentence_probabilities(logprobs, ends)


def test_divergence_keeps_the_chain_with_most_teacher_sentences():
    def scored(teacher, student):
        # Two sentences of two tokens.
        return chain(
            teacher_logprobs_T=np.repeat(np.log(teacher), 2).astype(np.float32),
            student_logprobs_T=np.repeat(np.log(student), 2).astype(np.float32),
            sentence_ends=(2, 4),
        )

    records = [
        scored([0.9, 0.9], [0.8, 0.1]),
        scored([0.9, 0.9], [0.1, 0.1]),
        scored([0.2, 0.2], [0.9, 0.9]),
        scored([0.9, 0.9], [0.1, 0.8]),
    ]
    expected = ["", "", "little_to_learn", "little_to_learn"]
    assert reasons("divergence", records, {"keep": 2}) == expected
    with pytest.raises(DataError, match="no log-probs of the teacher"):
        reasons("divergence", [chain()])


def test_filters_in_a_row_count_what_each_one_drops():
    records = [
        chain("a", tokens=range(20), verdict=Outcome.CORRECT),
        chain("a", tokens=range(2), verdict=Outcome.CORRECT),
        chain("b", tokens=range(9), verdict=Outcome.WRONG, text="2+2?"),
        chain("c", tokens=range(9), verdict=Outcome.CORRECT, text="3+3?"),
        chain("d", tokens=range(9), verdict=Outcome.CORRECT, text="1 + 1 ?"),
    ]
    steps = build_steps([{"length": {"min_tokens": 5, "max_tokens": 15}}, "correct"])
    facts = []
    for name, step in steps:
        assert isinstance(step, FilterStep)
        results, _ = apply_filter(step.filter, records, FilterContext())
        facts.append(tally(name, "key", records, results))
        records = kept(results)
    assert [record.question.id for record in records] == ["c", "d"]
    assert [(f.kept, f.dropped) for f in facts] == [
        (3, {"too_long": 1, "too_short": 1}),
        (2, {"wrong": 1}),
    ]
    assert facts[0].examples == {"too_long": ["a"], "too_short": ["a"]}
    assert str(facts[1]) == "correct: kept 2 of 3 (wrong 1)"


def test_unknown_parameters_are_refused():
    with pytest.raises(ConfigError, match="is not a parameter of length"):
        build_steps([{"length": {"max": 3}}])
