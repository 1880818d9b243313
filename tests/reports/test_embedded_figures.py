import base64
import io

from PIL import Image

from nasx.reports.html.load import MAX_WIDTH, load_figures
from tests.factories.report_inputs import make_figure


def test_figures_are_loaded_in_a_fixed_order_and_made_smaller(tmp_path):
    make_figure(tmp_path / "diagnostics/reliability.png")
    make_figure(tmp_path / "explanation/shap.png", size=(1520, 700))
    first, second = load_figures(tmp_path)

    assert first.caption.startswith("Evidence for its decisions")
    assert second.caption.startswith("Reliability of its confidence")
    assert (first.width, first.height) == (MAX_WIDTH, 414)
    head, _, content = first.source.partition(",")
    assert head == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (first.width, first.height)


def test_a_small_figure_is_not_enlarged(tmp_path):
    make_figure(tmp_path / "explanation/shap.png", size=(300, 200))

    assert load_figures(tmp_path)[0].width == 300


def test_other_files_are_ignored(tmp_path):
    make_figure(tmp_path / "explanation/cell.png")
    make_figure(tmp_path / "elsewhere/shap.png")

    assert load_figures(tmp_path) == []
