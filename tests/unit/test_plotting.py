"""How figures become files and parts of pages."""

from bard_ray.plotting import DARK, LIGHT, SERIES, add_legend, inline_svg, one_panel, save_figure


def two_lines(axes):
    axes.plot([0, 1], [0, 1], color=SERIES[0], label="price $x$")
    axes.plot([0, 1], [1, 0], color=SERIES[1], label="other")


def two_panels(canvas):
    for axes in canvas.subplots(1, 2):
        two_lines(axes)
    add_legend(canvas)


def test_the_same_figure_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_figure(tmp_path / name / "figure.svg", one_panel(two_lines))
    first, second = ((tmp_path / name / "figure.svg").read_bytes() for name in ("a", "b"))
    assert first == second
    assert first.startswith(b"<?xml")


def test_the_ending_of_a_file_names_its_format(tmp_path):
    save_figure(tmp_path / "figure.png", one_panel(two_lines))
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_has_real_colors_on_a_light_ground_and_a_page_has_variables(tmp_path):
    save_figure(tmp_path / "figure.svg", one_panel(two_lines))
    file, page = (tmp_path / "figure.svg").read_text(), inline_svg("key", one_panel(two_lines))
    assert LIGHT.series[0] in file
    assert LIGHT.card in file
    assert "stroke: var(--series-1)" in page
    assert not any(color in page for color in LIGHT.variables().values())


def test_both_schemes_have_the_same_variables_and_no_color_twice():
    assert LIGHT.variables().keys() == DARK.variables().keys()
    for palette in (LIGHT, DARK):
        colors = list(palette.variables().values())
        assert len(colors) == len(set(colors))


def test_a_dollar_sign_begins_no_formula():
    assert "price $x$" in inline_svg("key", one_panel(two_lines))


def test_a_name_stands_in_the_legend_once_for_all_panels():
    svg = inline_svg("key", two_panels)
    assert svg.count(">other</text>") == 1


def test_a_single_series_needs_no_legend():
    def one_line(axes):
        axes.plot([0, 1], [0, 1], label="alone")

    assert "alone" not in inline_svg("key", one_panel(one_line))
