import base64
import io

from materials import make_picture
from PIL import Image

from nasx.reports.html.load import WIDEST, gallery


def test_pictures_are_taken_in_the_order_of_reading_and_made_small(tmp_path):
    make_picture(tmp_path / "diagnostics/reliability.png")
    make_picture(tmp_path / "explanation/shap.png", size=(1520, 700))
    first, second = gallery(tmp_path)

    assert first.caption.startswith("What its decisions rest on")
    assert second.caption.startswith("Can its confidence be trusted?")
    assert (first.width, first.height) == (WIDEST, 414)
    head, _, content = first.source.partition(",")
    assert head == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (first.width, first.height)


def test_a_small_picture_is_not_made_larger(tmp_path):
    make_picture(tmp_path / "explanation/shap.png", size=(300, 200))

    assert gallery(tmp_path)[0].width == 300


def test_other_files_are_left_alone(tmp_path):
    make_picture(tmp_path / "explanation/cell.png")
    make_picture(tmp_path / "elsewhere/shap.png")

    assert gallery(tmp_path) == []
