"""The form of a lesson: each rule finds what it should, and leaves alone what is right."""
import pytest

from tools import form
from tools.files import ROOT
from tools.lint import lint_all


def md(source: str) -> dict:
    return {"cell_type": "markdown", "id": "m", "metadata": {}, "source": source}


def py(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "id": "c", "metadata": {}, "source": source, "outputs": list(outputs), "execution_count": None}


def shown(**data: str) -> dict:
    return {"output_type": "display_data", "metadata": {}, "data": {kind.replace("_", "/", 1): value for kind, value in data.items()}}


def faults(rule, *cells: dict) -> list[str]:
    return [what for _, what in rule(list(cells))]


OPENING = [
    md("# Title\n\n> Promise\n\n**30 minutes, and 20 for the exercises · ★☆☆ · a CPU**"),
    md("**What you need:** nothing. **After this you can** count."),
    md("## The claim\n\nA claim."),
    py("x", {"output_type": "execute_result", "metadata": {}, "data": {"text/plain": "1"}}),
]
ENDING = [md("## In production\n\na\n\n## Since 2022\n\nb\n\n## Take away\n\nOne. Two. Three.\n\n## Next\n\n[Two](02_two.ipynb) says why.")]


def test_a_lesson_of_the_form_has_no_faults():
    prose = md("word " * 4000)
    assert form.form_faults([*OPENING, prose, *ENDING], None) == []


def test_a_cell_of_26_lines_and_301_in_all_are_too_many():
    assert faults(form.size_faults, py("\n".join(f"x{i} = {i}" for i in range(26)))) == ["26 lines in one cell; 25 at most"]
    cells = [cell for _ in range(12) for cell in (py("\n".join(["x = 1"] * 25)), md("a"))]
    assert faults(form.size_faults, *cells) == [] and faults(form.size_faults, *cells, py("x")) == ["301 visible lines of code; 300 at most"]


@pytest.mark.parametrize("mark", ["#| check f\n", "#| hide\n", "#| mutant f: w\n", "#| copy f: w\n", "#| echo: false\n", "#| hide_input\n"])
def test_what_is_not_seen_does_not_count(mark):
    assert faults(form.size_faults, py(mark + "\n".join(["x = 1"] * 60))) == []
    assert not form.is_visible(py(mark + "x = 1"))


def test_folded_imports_do_not_count_and_of_an_exercise_only_the_stub_does():
    assert not form.is_visible(py("import os\nfrom re import sub"))
    solution = "\n".join(["    x = 1"] * 30)
    exercise = py(f"#| exercise f\ndef f():\n    ### BEGIN SOLUTION\n{solution}\n    ### END SOLUTION")
    assert len(form.seen_code(exercise)) == 3


def test_wide_lines_are_found_also_in_checks_but_not_in_what_is_never_handed_out():
    wide = "x = " + "1" * 89
    assert len(wide) == 93
    assert len(faults(form.size_faults, py(wide))) == len(faults(form.size_faults, py(f"#| check f\n{wide}"))) == 1
    assert faults(form.size_faults, py(wide[:-1])) == faults(form.size_faults, py(f"#| mutant f: w\n{wide}")) == []


def test_a_third_code_cell_in_a_row_needs_a_sentence():
    assert faults(form.size_faults, py("x"), py("y")) == []
    assert faults(form.size_faults, py("x"), py("y"), py("z"), py("w")) == ["3 code cells in a row without a sentence between them"]
    assert faults(form.size_faults, py("x"), py("y"), md("so"), py("z")) == []
    around = [py('guess("a", 1)'), py("import os"), py("#| setup\nx = 1"), py("#| exercise f\nf = 1"), py('check("f", f)')]
    assert faults(form.size_faults, py("x"), *around, py("y")) == []


def test_headings_need_something_under_them():
    assert faults(form.heading_faults, md("## A"), md("## B\n\ntext")) == ["nothing stands under the heading 'A'"]
    assert faults(form.heading_faults, md("## A\n\n### B\n\ntext"), md("## C"), py("x")) == []
    assert faults(form.heading_faults, md("text\n\n## Tests"), py("#| mutant f: w\nx")) == ["nothing stands under the heading 'Tests'"]
    assert faults(form.heading_faults, md("## A\n\n```\n# no heading\n# none\n```")) == []


def test_pictures_need_words():
    assert faults(form.picture_faults, md("![](a.svg)"), md('<img src="a.svg">'), md('![a ring](a.svg) <img src="a" alt="a ring">')) == ["a picture has no alternative text"] * 2
    assert len(faults(form.picture_faults, py("plot()", shown(image_png="x")))) == 1
    assert faults(form.picture_faults, py("#| fig-alt: a falling line\nplot()", shown(image_png="x"))) == []
    assert len(faults(form.picture_faults, py("draw()", shown(text_html="<svg><title>t</title></svg>")))) == 1
    assert faults(form.picture_faults, py("draw()", shown(text_html="<svg><title>t</title><desc>two bars</desc></svg>"))) == []


def test_the_opening_says_what_you_need_and_shows_something_soon():
    assert faults(form.opening_faults, *OPENING) == []
    assert len(faults(form.opening_faults, OPENING[0], OPENING[3])) == 3
    late = [*OPENING[:3], *(py("\n".join(["x = 1"] * 21)) for _ in range(2)), OPENING[3]]
    assert faults(form.opening_faults, *late) == ["42 lines of code stand before the first picture or result; 40 at most"]


def test_the_ending_has_its_sections_three_sentences_and_a_link():
    assert faults(form.ending_faults, *ENDING) == []
    text = ENDING[0]["source"]
    assert "does not end with" in faults(form.ending_faults, md(text.replace("## Since 2022", "## Later")))[0]
    assert faults(form.ending_faults, md(text.replace("One. Two. Three.", "One."))) == ["Take away has 1 sentences; three are asked for"]
    assert faults(form.ending_faults, md(text.replace("[Two](02_two.ipynb)", "Two"))) == ["Next links to nothing"]


@pytest.mark.parametrize("header, seconds, wrong", [("30 minutes", 0, 0), ("19 minutes", 0, 1), ("46 minutes", 0, 1), ("46 minutes", 600, 0), ("40 minutes, and 30 for the exercises", 600, 1)])
def test_minutes_fit_words_code_and_run_time(header, seconds, wrong):
    cells = [md(f"# T\n\n> P\n\n**{header} · ★☆☆**"), md("word " * 4500)]
    assert len(form.minutes_faults(cells, {"seconds": seconds})) == wrong


def test_exercises_are_not_counted_as_reading():
    cells = [md("## Exercises\n\nwords here"), md("### Exercise 1 · a\n\none two"), py("#| exercise f\nf"), md("## In production\n\nmore")]
    reading, exercises = form.split_exercises(cells)
    assert reading == [cells[0], cells[3]] and exercises == cells[1:3]


def test_the_list_of_lessons_without_the_form_only_shrinks():
    names = form.without_form()
    assert all((ROOT / "nbs" / name).is_file() for name in names), "the list names a lesson that is not there"
    assert len(names) <= 22, "a lesson has lost its form"


def test_a_listed_lesson_that_has_the_form_is_a_fault(monkeypatch):
    name = "03_parallel/05_zero.ipynb"
    monkeypatch.setattr("tools.lint.form_faults", lambda cells, cost: [])
    monkeypatch.setattr("tools.lint.without_form", lambda: {name})
    assert any("take it off the list" in finding.what for finding in lint_all([ROOT / "nbs" / name]))
