import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch, Rectangle

from nasx.errors import ResourceError, SettingError
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, NONE, SKIP, Edge
from nasx.reports.figures import classes, front, style
from nasx.reports.figures.cell import OPERATION_STYLES, cell_figure
from nasx.reports.figures.image_grid import shap_figure
from nasx.reports.palette import BLUE, CLOUD, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from nasx.reports.paper import paper_front
from nasx.reports.summary import summarize
from tests.factories.trials import make_explanation, make_noisy_run, make_run, make_trial, symmetric

BOTH = ("error", "introspectability")


@pytest.fixture
def summary():
    return summarize(make_run(), BOTH, n_classes=10)


def points(axes, label):
    """Return the points of the scatters whose label starts with `label`, (n, 2)."""
    found = [c for c in axes.collections if isinstance(c, PathCollection) and c.get_label().startswith(label)]
    return np.concatenate([np.asarray(c.get_offsets()) for c in found])


def step_line(axes):
    (line,) = [line for line in axes.lines if line.get_color() == BLUE]
    return line


def test_every_network_is_drawn_once_on_or_off_the_front(summary):
    (axes,) = front.front_figure(summary).axes
    assert len(points(axes, "front")) == len(summary.front)
    assert len(points(axes, "other networks")) == len(summary.architectures) - len(summary.front)


def test_the_axes_say_objective_unit_and_direction(summary):
    (axes,) = front.front_figure(summary).axes
    assert axes.get_xlabel() == "introspectability, higher is better →"
    assert axes.get_ylabel() == "← validation error (%), lower is better"


def test_shares_are_shown_in_percent(summary):
    (axes,) = front.front_figure(summary).axes
    assert axes.yaxis.get_major_formatter()(0.05, 0) == "5"


def test_the_knee_is_marked_and_named_with_its_values(summary):
    (axes,) = front.front_figure(summary).axes
    knee = next(m for m in summary.front if m.arch_id == summary.knee)
    assert points(axes, f"knee {summary.knee} (3.89 %, 0.897)").tolist() == [
        [knee.metrics["introspectability"], knee.metrics["error"]]
    ]


def test_the_caption_has_the_hypervolume(summary):
    assert "hypervolume 0.8509" in front.front_figure(summary).get_supxlabel()


@pytest.fixture(scope="module")
def noisy():
    return summarize(make_noisy_run(), BOTH, n_classes=10)


def bars(axes):
    """Return the ends of all error bars, (n, 2, 2)."""
    return np.array([s for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()])


def test_the_front_is_drawn_with_intervals_of_one_standard_deviation(noisy):
    figure = front.front_figure(noisy)
    ends = bars(figure.axes[0])
    expected = []
    for member in noisy.front:
        x, y = member.metrics["introspectability"], member.metrics["error"]
        dx, dy = member.std["introspectability"], member.std["error"]
        expected += [[[x - dx, y], [x + dx, y]], [[x, y - dy], [x, y + dy]]]
    assert ends == pytest.approx(np.array(expected))
    assert "points: estimates; bars: ± one standard deviation; hollow: trained once" in figure.get_supxlabel()
    assert "of it is certain" in figure.get_supxlabel()


def test_every_interval_is_inside_the_axes(noisy):
    (axes,) = front.front_figure(noisy).axes
    x, y = bars(axes).reshape(-1, 2).T
    assert axes.get_xlim()[0] < x.min() <= x.max() < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < y.min() <= y.max() < axes.get_ylim()[1]


def test_members_trained_once_are_hollow(noisy):
    (axes,) = front.front_figure(noisy).axes
    once = [m for m in noisy.front if m.trainings == 1]
    assert 0 < len(once) < len(noisy.front)
    assert len(points(axes, "front, trained once")) == len(once)
    (hollow,) = (c for c in axes.collections if c.get_label() == "front, trained once")
    assert to_hex(hollow.get_facecolor()[0]) == "#ffffff"


def test_an_exact_objective_has_no_interval():
    summary = summarize(make_noisy_run(), ("error", "parameters"), n_classes=10)
    (axes,) = front.front_figure(summary).axes
    starts, ends = bars(axes).transpose(1, 0, 2)
    assert np.all(starts[:, 0] == ends[:, 0])


def test_without_a_model_there_are_no_intervals_and_the_caption_says_what_the_points_are(summary):
    figure = front.front_figure(summary)
    assert len(bars(figure.axes[0])) == 0
    assert "points: means of each network's trainings; the best of many" in figure.get_supxlabel()


@pytest.mark.parametrize(("second", "where"), [("introspectability", "steps-pre"), ("parameters", "steps-post")])
def test_the_step_line_bounds_what_the_front_dominates(second, where):
    """At x, the next member's value is reached if more is better, the last member's if less is better."""
    (axes,) = front.front_figure(summarize(make_run(), ("error", second), n_classes=10)).axes
    line = step_line(axes)
    assert line.get_drawstyle() == where
    assert np.all(np.diff(line.get_xdata()) >= 0)


def test_the_whole_front_is_inside_the_axes(summary):
    (axes,) = front.front_figure(summary).axes
    x, y = points(axes, "front").T
    assert axes.get_xlim()[0] < x.min() <= x.max() < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < y.min() <= y.max() < axes.get_ylim()[1]


def test_networks_outside_the_axes_are_counted_in_the_caption():
    trials = [make_trial(i, error=0.1 + i / 100, introspectability=0.5 + i / 100) for i in range(20)]
    stray = make_trial(99, error=0.9, introspectability=0.1)
    figure = front.front_figure(summarize([*trials, stray], BOTH, n_classes=10))
    assert "; 1 network outside the axes" in figure.get_supxlabel()


def test_error_as_the_only_objective_is_drawn_against_introspectability():
    (axes,) = front.front_figure(summarize(make_run(), ("error",), n_classes=10)).axes
    assert axes.get_xlabel().startswith("introspectability")
    assert not [line for line in axes.lines if line.get_color() == BLUE]


def test_three_objectives_are_drawn_without_a_step_line():
    (axes,) = front.front_figure(summarize(make_run(), (*BOTH, "parameters"), n_classes=10)).axes
    assert not [line for line in axes.lines if line.get_color() == BLUE]


def test_an_empty_front_says_so():
    (axes,) = front.front_figure(summarize([], BOTH, n_classes=10)).axes
    assert [t.get_text() for t in axes.texts] == ["no network on the front yet"]


def test_the_papers_front_is_cited_and_its_chance_level_points_stretch_no_axis(summary):
    figure = front.front_figure(summary, paper=paper_front("cifar10"))
    (axes,) = figure.axes
    (line,) = [line for line in axes.lines if line.get_color() == GREEN]
    assert len(line.get_xdata()) == 34
    assert axes.get_ylim()[1] < 0.5
    assert "Carmichael, Moon, Jacobs" in figure.get_supxlabel()
    assert "CC BY 4.0" in figure.get_supxlabel()


def test_the_heat_map_shows_each_pair_once_and_frames_the_closest_and_the_farthest():
    distances = symmetric(3, pair_01=0.25, pair_02=0.5, pair_12=0.75)
    axes = classes.distances_figure(distances, ["a", "b", "c"]).axes[0]
    assert sorted(t.get_text() for t in axes.texts) == ["0.25", "0.50", "0.75"]
    frames = {p.get_label(): p.get_xy() for p in axes.patches if isinstance(p, Rectangle)}
    assert frames == {"closest": (-0.5, -0.5), "farthest": (0.5, 0.5)}  # column a, row b; column b, row c


def test_a_pair_without_a_distance_stays_blank_in_the_heat_map():
    distances = symmetric(3, pair_01=0.25, pair_02=np.nan, pair_12=0.75)
    axes = classes.distances_figure(distances, ["a", "b", "c"]).axes[0]
    assert sorted(t.get_text() for t in axes.texts) == ["0.25", "0.75"]


def test_a_hundred_classes_are_all_named_in_a_figure_that_grows():
    names = [f"class {i}" for i in range(100)]
    figure = classes.distances_figure(np.random.default_rng(0).random((100, 100)), names)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == names[1:]
    assert figure.get_figheight() / 99 > 0.14  # inches per name
    assert not axes.texts


def test_the_profile_runs_from_the_input_at_the_top_to_the_output():
    axes = classes.profile_figure({"shap": {"stem": 0.2, "stage1": 0.4}}).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["stem", "stage1"]
    bottom, top = axes.get_ylim()
    assert bottom > top
    assert [t.get_text() for t in axes.texts] == ["0.200", "0.400"]


def test_each_scorer_has_its_own_panel_on_one_scale():
    panels = classes.profile_figure({"shap": {"stem": 0.2}, "activations": {"conv": 0.9}}).axes
    assert [p.get_title(loc="left") for p in panels] == ["by shap", "by activations"]
    assert panels[0].get_xlim() == panels[1].get_xlim()


def edges_drawn(axes):
    return [p.get_label() for p in axes.patches if isinstance(p, PathPatch)]


def test_a_cell_shows_its_edges_and_leaves_out_those_that_carry_nothing():
    edges = [Edge(0, 1, CONV_3X3), Edge(0, 2, NONE), Edge(1, 2, SKIP), Edge(2, 3, AVG_POOL)]
    figure = cell_figure(edges)
    assert edges_drawn(figure.axes[0]) == ["0→1 nor_conv_3x3", "1→2 skip_connect", "2→3 avg_pool_3x3"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        OPERATION_STYLES[o].label for o in (CONV_3X3, AVG_POOL, SKIP)
    ]


def test_operations_differ_in_color_and_a_skip_is_the_thinnest():
    assert len({style.color for style in OPERATION_STYLES.values()}) == len(OPERATION_STYLES) == 4
    assert min(OPERATION_STYLES.values(), key=lambda style: style.width) is OPERATION_STYLES[SKIP]


def test_an_unknown_operation_is_labeled_with_its_name():
    figure = cell_figure([Edge(0, 1, "my_operation")])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["my_operation"]


def test_the_longest_arc_of_a_cell_is_inside_the_axes():
    (axes,) = cell_figure([Edge(0, 3, CONV_1X1)]).axes
    (arc,) = [p for p in axes.patches if isinstance(p, PathPatch)]
    middle = arc.get_path().vertices[:, 1].max() / 2  # a quadratic curve rises to half of its control point
    assert middle < axes.get_ylim()[1]


def test_every_sample_has_its_image_and_shap_values_for_each_explained_class():
    explanation = make_explanation()
    figure = shap_figure(explanation)
    images = sum(len(axes.images) for axes in figure.axes)
    assert images == sum(1 + len(s.attributions) for s in explanation.samples)


def test_an_incorrect_prediction_names_predicted_and_true_class():
    texts = [t.get_text() for t in shap_figure(make_explanation()).texts]
    assert "predicted dog, 75 %" in texts
    assert "true class cat" in texts


def test_the_palette_is_of_okabe_and_ito():
    assert {BLUE, VERMILLION, GREEN, SKY, ORANGE, PURPLE} == {
        "#0072b2",
        "#d55e00",
        "#009e73",
        "#56b4e9",
        "#e69f00",
        "#cc79a7",
    }
    assert CLOUD not in {BLUE, VERMILLION, GREEN, SKY, ORANGE, PURPLE}


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_a_figure_is_written_in_the_format_of_its_suffix(tmp_path, summary, suffix, start):
    path = tmp_path / "new" / f"front{suffix}"
    style.save(front.front_figure(summary), path)
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_data_give_the_same_file(tmp_path, summary, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    style.save(front.front_figure(summary), first)
    style.save(front.front_figure(summary), second)
    assert first.read_bytes() == second.read_bytes()


def test_an_unknown_suffix_is_refused(summary, tmp_path):
    with pytest.raises(SettingError, match=r"the figure's file name must end in .png, .svg or .pdf, got 'front.jpg'"):
        style.save(front.front_figure(summary), tmp_path / "front.jpg")


def test_a_path_that_cannot_be_written_is_named(summary, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"front.png cannot be written \((File exists|Not a directory)\)"):
        style.save(front.front_figure(summary), tmp_path / "file" / "front.png")


def test_the_users_settings_of_matplotlib_are_neither_used_nor_changed(summary):
    with mpl.rc_context({"axes.grid": False, "axes.edgecolor": "red"}):
        before = dict(mpl.rcParams)
        (axes,) = front.front_figure(summary).axes
        assert dict(mpl.rcParams) == before
    assert mpl.colors.to_hex(axes.spines["left"].get_edgecolor()) != "#ff0000"


HOSTILE = ["$\\frac{1}{0}$", "<script>alert(1)</script>", "a\nb\x1b[31m" * 20]


def test_hostile_class_names_are_drawn_as_text(tmp_path):
    distances = symmetric(3, pair_01=0.25, pair_02=0.5, pair_12=0.75)
    style.save(classes.distances_figure(distances, HOSTILE), tmp_path / "distances.svg")
    style.save(shap_figure(make_explanation(HOSTILE)), tmp_path / "shap.svg")
    for path in tmp_path.iterdir():
        assert "<script>" not in path.read_text()
