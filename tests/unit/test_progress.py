"""The progress line: on a terminal, in a log file, and on streams that misbehave."""

import io
import os

import pytest

from bard_ray import progress as module
from bard_ray.progress import Console, clean, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal and shows what a person would see on it."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def screen(self):
        """Lines after carriage returns and erasures have had their effect."""
        return [line.rsplit(module.ERASE_LINE, 1)[-1] for line in self.getvalue().split("\n")]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def test_a_stage_on_a_terminal_ends_as_one_line(terminal, clock):
    console = Console(terminal, clock=clock)
    with console.stage(3, 5, "sft", "budget-aware SFT") as progress:
        for step in range(1251):
            clock.now = 0.068 * step
            progress.update(step, 1250, "loss 0.46")
    bar = "#" * 12
    assert terminal.screen() == [
        f"[3/5] sft        budget-aware SFT                {bar}  step 1250/1250  loss 0.46  85 s",
        "",
    ]


def test_the_live_line_has_a_bar_and_the_time_left(terminal, clock):
    console = Console(terminal, clock=clock)
    progress = console.stage(4, 5, "rl", "GRPO")
    progress.update(0, 80)
    clock.now = 10.0
    progress.update(10, 80)
    clock.now = 20.0
    progress.update(20, 80, "reward .62")
    line = terminal.screen()[-1]
    assert "###---------" in line
    assert line.endswith("step 20/80  reward .62  20 s, 60 s left")


def test_a_resumed_stage_estimates_from_where_it_resumed(clock):
    progress = Console(io.StringIO(), clock=clock).stage(4, 5, "rl", "GRPO")
    progress.update(60, 80)
    assert progress.left_s() is None
    clock.now = 1.0
    progress.update(61, 80)
    clock.now = 10.0
    progress.update(70, 80)
    assert progress.left_s() == pytest.approx(10.0)


def test_an_estimate_leaves_out_the_start_of_the_engines(clock):
    progress = Console(io.StringIO(), clock=clock).stage(2, 6, "base", "")
    progress.update(0, 101)
    clock.now = 40.0  # engines start, then the first step runs
    progress.update(1, 101)
    assert progress.left_s() is None
    clock.now = 41.0
    progress.update(11, 101)
    assert progress.left_s() == pytest.approx(9.0)


def test_a_terminal_is_not_redrawn_more_often_than_the_eye_sees(terminal, clock):
    progress = Console(terminal, clock=clock).stage(1, 1, "sft", "")
    for step in range(1000):
        clock.now = step / 1000
        progress.update(step, 1000)
    assert terminal.getvalue().count(module.ERASE_LINE) <= 1 / module.REDRAW_S + 1


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 119])
def test_no_live_line_wraps(monkeypatch, terminal, clock, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    progress = Console(terminal, clock=clock).stage(3, 5, "sft", "budget-aware SFT")
    clock.now = 1.0
    progress.update(731, 1250, "loss 0.46")
    assert 0 < len(terminal.screen()[-1]) < columns


def test_a_narrow_terminal_keeps_the_numbers_and_drops_the_decoration(monkeypatch, terminal, clock):
    monkeypatch.setenv("COLUMNS", "60")
    progress = Console(terminal, clock=clock).stage(3, 5, "sft", "budget-aware SFT")
    clock.now = 1.0
    progress.update(731, 1250, "loss 0.46")
    line = terminal.screen()[-1]
    assert "step 731/1250" in line
    assert "#" not in line


def test_a_message_appears_above_the_live_line(terminal, clock):
    console = Console(terminal, clock=clock)
    progress = console.stage(1, 1, "rl", "")
    clock.now = 1.0
    progress.update(1, 2)
    console.line("rollout worker 1 was replaced")
    assert terminal.screen()[0] == "rollout worker 1 was replaced"
    assert terminal.screen()[1].startswith("[1/1] rl")


def test_a_log_file_gets_a_plain_line_now_and_then(clock):
    stream = io.StringIO()
    with Console(stream, plain_line_s=15.0, clock=clock).stage(3, 5, "sft", "SFT") as progress:
        for step in range(46):
            clock.now = float(step)
            progress.update(step, 45)
    lines = stream.getvalue().splitlines()
    assert [line.split("step ")[1].split()[0] for line in lines] == [
        "15/45",
        "30/45",
        "45/45",
        "45/45",
    ]
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_an_interrupted_stage_says_so(clock):
    stream = io.StringIO()

    def interrupted():
        with Console(stream, clock=clock).stage(1, 1, "rl", "") as progress:
            progress.update(3, 80, "reward .62")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "step 3/80  reward .62  stopped" in stream.getvalue()


def test_percent_where_a_stage_has_no_unit(clock):
    stream = io.StringIO()
    with Console(stream, clock=clock).stage(1, 5, "distill", "rows", unit="") as progress:
        progress.update(1, 3)
    assert " 33 %" in stream.getvalue()


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b[31mred", "a[31mred"),
        ("a\rb\nc\td", "a b c d"),
        ("nul\x00bell\x07", "nulbell"),
        ("\u202eevil\u2066", "evil"),
        ("zero\u200bwidth", "zerowidth"),
        ("\x9b2J", "2J"),
        ("π ≤ 3.2 é", "π ≤ 3.2 é"),
    ],
)
def test_what_a_model_wrote_cannot_steer_the_terminal(terminal, clock, hostile, shown):
    assert clean(hostile) == shown
    console = Console(terminal, clock=clock)
    console.stage(1, 1, "rl", "").finish(hostile)
    console.line(hostile)
    for character in "\x1b\x00\x07\x9b\u202e\u200b\r":
        assert character not in terminal.getvalue()


def test_a_table_keeps_its_columns_and_lines():
    stream = io.StringIO()
    Console(stream).line(" budget   length\n      8      8.1")
    assert stream.getvalue() == " budget   length\n      8      8.1\n"


def test_a_huge_text_is_cut():
    assert len(clean("x" * 10**6)) == 2000


class BrokenPipe(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def closed_stream():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [closed_stream(), BrokenPipe(), None])
def test_a_stream_that_is_gone_never_stops_a_run(stream, clock):
    console = Console(stream, plain_line_s=0.0, clock=clock)
    with console.stage(1, 1, "rl", "") as progress:
        for step in range(3):
            clock.now = float(step)
            progress.update(step, 3, "still running")
    console.line("done")
    assert progress.left_s() == 1.0


def test_a_stream_closed_halfway_never_stops_a_run(terminal, clock):
    with Console(terminal, clock=clock).stage(1, 1, "rl", "") as progress:
        progress.update(0, 3)
        terminal.close()
        for step in (1, 2):
            clock.now = float(step)
            progress.update(step, 3)
    assert progress.left_s() == 1.0


def test_an_ascii_stream_gets_question_marks():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream).line("π = 3")
    assert raw.getvalue() == b"? = 3\n"


def test_a_real_pseudo_terminal_is_recognized(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        assert Console(stream).is_terminal
        # Nobody gave this one a size: it says 0 columns, and 80 is the better guess.
        monkeypatch.delenv("COLUMNS", raising=False)
        assert Console(stream).columns() == 80
        monkeypatch.setenv("TERM", "dumb")
        assert not Console(stream).is_terminal
    os.close(leader)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (85.4, "85 s"),
        (119, "119 s"),
        (185, "3 min 05 s"),
        (7380, "2 h 03 min"),
        (-1, "0 s"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
