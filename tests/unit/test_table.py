"""The table a run ends with."""

from bard_ray.report.results import Results
from bard_ray.report.table import render_table
from bard_ray.report.text import share


def point(length, accuracy):
    return {
        "mean_length": length,
        "rel_err": 0.1,
        "in_band": 0.5,
        "overrun": 0.5,
        "accuracy": accuracy,
        "p10": 1.0,
        "p50": 2.0,
        "p90": 3.0,
        "n": 4,
        "stderr": 0.1,
        "acc2_per_token": 0.1,
        "broken": 0,
    }


def variant(points, broken=0):
    tops = {
        "rel_err": 0.0654,
        "in_band": 0.87,
        "overrun": 0.32,
        "accuracy": 0.69,
        "broken": broken,
        "failed": 0,
    }
    return {**tops, "by_budget": points}


RESULTS = Results(
    variants={
        "sft": variant(
            {"8": point(8.1, 0.11), "13": point(12.8, 0.36), "none": point(33.04, 0.97)}
        ),
        "sft_full_forced": variant({"8": point(8.0, 0.07), "13": point(13.0, 0.1)}),
        "rl": variant({"8": point(8.0, 0.16), "13": point(13.6, 1.0), "none": point(30.0, 0.98)}),
    },
    config={"held_out": [13]},
)


def test_the_whole_table():
    assert render_table(RESULTS) == "\n".join(
        [
            "                  BARD-SFT    forced              BARD",
            " budget   length  accuracy  accuracy  length  accuracy",
            "      8      8.1       .11       .07     8.0       .16",
            "     13*    12.8       .36       .10    13.6      1.00",
            "   none     33.0       .97         -    30.0       .98",
            "",
            " means over budgets  |L-b|/b  in band  overrun  accuracy",
            " BARD-SFT               .065      .87      .32       .69",
            " forced                 .065      .87      .32       .69",
            " BARD                   .065      .87      .32       .69",
            " * never seen in training",
        ]
    )


def test_lost_answers_are_said_below():
    text = render_table(Results(variants={"rl": variant({"8": point(8.0, 0.5)}, broken=3)}))
    assert text.endswith(
        "BARD: 3 answers could not be graded, 0 groups were not sampled; they are left out"
    )


def test_an_unknown_variant_keeps_its_name_and_a_missing_value_is_a_dash():
    text = render_table(Results(variants={"additive": variant({"8": point(None, None)})}))
    assert "additive" in text.splitlines()[0]
    assert text.splitlines()[2].split() == ["8", "-", "-"]


def test_the_student_a_run_was_given_stands_alone():
    given = Results(variants={"student": variant({"8": point(9.5, 0.25), "none": point(30, 0.5)})})
    assert render_table(given) == "\n".join(
        [
            "             given student",
            " budget   length  accuracy",
            "      8      9.5       .25",
            "   none     30.0       .50",
            "",
            " means over budgets  |L-b|/b  in band  overrun  accuracy",
            " given student          .065      .87      .32       .69",
        ]
    )


def test_a_variant_measured_without_a_budget_only_has_no_means():
    free = variant({"none": point(30, 0.5)})
    free |= {"rel_err": None, "in_band": None, "overrun": None, "accuracy": None}
    lines = render_table(Results(variants={"student": free})).splitlines()
    assert lines[2].split() == ["none", "30.0", ".50"]
    assert lines[-1].split() == ["given", "student", "-", "-", "-", "-"]


def test_a_long_name_widens_its_columns():
    names = {name: variant({"8": point(8.0, 0.5)}) for name in ("rl", "a_rather_long_name_of_ours")}
    lines = render_table(Results(variants=names)).splitlines()
    assert lines[0].split() == ["BARD", "a_rather_long_name_of_ours"]
    assert len({len(line) for line in lines[:3]}) == 1


def test_no_variants_no_crash():
    assert render_table(Results()) == " no variant was evaluated"


def test_shares_keep_three_columns_or_say_one():
    assert [share(v) for v in (None, 0.0, 0.074, 0.996, 1.0)] == ["-", ".00", ".07", "1.00", "1.00"]
