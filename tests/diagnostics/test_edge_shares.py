"""Maps of classes inside a network, shares of edges, and the explanation of one image."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from nasx.diagnostics.class_pairs import activity_by_block, class_map, class_tree
from nasx.diagnostics.edge_shares import conductances, edge_shares
from nasx.diagnostics.explain import mean_activity
from nasx.diagnostics.explain_image import INPUT, ImageExplanation, explain_image
from nasx.networks.cell import Cell
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, SKIP, Edge
from nasx.networks.skeletons import cell_network
from nasx.reports.figures.classes import activity_figure, map_figure, tree_figure
from nasx.reports.image_page import image_page, maps_figure
from tests.factories.staged_networks import N_CLASSES, make_data, make_network, pixels_of

EDGES = [Edge(0, 1, CONV_3X3), Edge(0, 2, SKIP), Edge(1, 2, CONV_1X1), Edge(0, 3, AVG_POOL), Edge(2, 3, SKIP)]


def test_the_plane_is_that_of_the_principal_components():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 5
    vectors = rng.normal(size=(60, 7)) + 3 * rng.normal(size=(5, 7))[labels]
    found = class_map("stem", vectors, labels, n_classes=5)

    means = np.stack([vectors[labels == c].mean(axis=0) for c in range(5)])
    expected = PCA(2).fit(means)
    assert found.shown == pytest.approx(expected.explained_variance_ratio_.sum())
    assert np.abs(found.centroids) == pytest.approx(np.abs(expected.transform(means)))
    assert np.abs(found.images) == pytest.approx(np.abs(expected.transform(vectors)))


def test_a_class_without_images_has_no_coordinates():
    found = class_map("stem", np.eye(4), [0, 1, 3, 3], n_classes=4)
    assert np.isnan(found.centroids[2]).all()
    assert np.isfinite(found.centroids[[0, 1, 3]]).all()


def test_two_classes_are_on_a_line():
    found = class_map("stem", [[0.0, 1.0], [2.0, 1.0]], [0, 1], n_classes=2)
    assert found.centroids.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_a_pair_without_a_distance_has_the_largest_one_and_too_few_classes_have_no_tree():
    distances = np.array([[0, 0.1, np.nan], [0.1, 0, 0.6], [np.nan, 0.6, 0]])
    assert class_tree(distances)[:, 2].tolist() == pytest.approx([0.1, 0.6])
    assert class_tree(distances[:2, :2]) is None
    assert class_tree(np.where(np.eye(3, dtype=bool), 0, np.nan)) is None


def cells(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cell_network(EDGES, widths=(4, 8, 16), cells=1, input_shape=(1, 8, 8), n_classes=N_CLASSES).eval()


def test_contributions_of_edges_to_the_output_sum_to_the_logit_difference():
    network = cells()
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    parts = conductances(network, images[0], images[1], steps=400)

    with torch.no_grad():
        logits, reference = network(images)
    gap = float((logits - reference)[logits.argmax()])
    for cell in ("stage1.0", "stage2.1", "stage3.1"):
        into_output = [float(v.sum()) for (name, edge), v in parts.items() if name == cell and edge.target == 3]
        into_inner = [float(v.sum()) for (name, edge), v in parts.items() if name == cell and edge.target == 2]
        through_skip = float(parts[cell, Edge(2, 3, SKIP)].sum())
        assert len(into_output) == 2
        assert sum(into_output) == pytest.approx(gap, rel=0.02)
        assert sum(into_inner) == pytest.approx(through_skip, rel=1e-3)  # a skip passes on the sum of its node


def test_shares_of_edges_sum_to_one_and_the_network_is_not_changed():
    network, images = cells().train(), torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    shares = edge_shares(network, images[:3], images[3:])

    assert set(shares) == set(EDGES)
    assert sum(shares.values()) == pytest.approx(1)
    assert network.training
    assert not any(m._forward_hooks for m in network.modules())


def test_a_network_without_cells_has_no_shares():
    images = torch.randn(4, 1, 8, 8)
    assert edge_shares(make_network(), images[:2], images[2:]) == {}


@pytest.fixture(scope="module")
def one():
    data = make_data()
    return explain_image(make_network(), data, data.validation.images[4], name="image 4", label=1), data


def test_a_prediction_has_a_calibrated_confidence(one):
    found, _ = one
    assert found.probabilities.sum() == pytest.approx(1)
    assert 0 < found.confidence < 1
    assert list(found.maps) == [INPUT, "stem"]
    assert all(map_.shape == (8, 8) for map_ in found.maps.values())


def test_the_maps_sum_to_the_same_logit_difference(one):
    maps = one[0].maps
    assert maps[INPUT].sum() == pytest.approx(maps["stem"].sum(), abs=0.05 * np.abs(maps[INPUT]).sum())


def test_distances_are_to_the_mean_images_of_the_classes(one):
    found, data = one
    network = make_network()
    pixels = torch.from_numpy((data.validation.images / 255 - data.mean) / data.std).float()
    with torch.no_grad():
        vectors = network.stem(pixels).mean(dim=(2, 3)).numpy()
    means = [vectors[data.validation.labels == c].mean(axis=0) for c in range(N_CLASSES)]
    cosines = [vectors[4] @ m / np.linalg.norm(vectors[4]) / np.linalg.norm(m) for m in means]
    assert found.distances["stem"] == pytest.approx(1 - np.array(cosines), abs=1e-5)


def made_up(label):
    return ImageExplanation(
        name="cat[1].png",
        image=np.zeros((3, 4, 4), dtype=np.uint8),
        label=label,
        probabilities=np.array([0.05, 0.949, 0.001]),
        confidence=0.912,
        maps={INPUT: np.eye(4), "stem": -np.eye(2)},
        distances={"stem": np.array([0.1, 0.2, 0.3]), "stage1": np.array([0.4, 0.1, 0.3])},
        class_names=("cat", "dog", "ship"),
    )


def test_the_page_of_an_image():
    page = image_page(made_up(label=0), "a1b2c3d4e5")
    assert dict(page.facts) == {
        "image": "cat[1].png",
        "prediction": "dog",
        "true class": "cat (the prediction is incorrect)",
        "confidence": "91.2 % of such predictions are correct (calibrated)",
        "most likely": "dog 94.9 %; cat 5.0 %; ship 0.1 %",
    }
    maps, nearest = page.sections
    assert "SHAP values for dog: orange is evidence for it" in maps.paragraphs[0]
    assert "The predicted class is first the nearest at stage1." in nearest.paragraphs[0]
    assert nearest.table[1] == ("stem", "cat (0.100)", "dog (0.200)", "ship (0.300)")
    assert "true class" not in dict(image_page(made_up(label=None), "a").facts)


@pytest.mark.parametrize("n_classes", [2, 12, 40])
def test_pictures_are_drawn_for_few_and_many_classes(n_classes):
    rng = np.random.default_rng(0)
    labels = np.arange(80) % n_classes
    maps = [class_map(name, rng.normal(size=(80, 5)), labels, n_classes) for name in ("stem", "stage1", "stage2")]
    names = [f"class {c}" for c in range(n_classes)]
    figure = map_figure(maps, names)
    shown = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes if axes.axison]
    assert [title.partition(":")[0] for title in shown] == ["stem", "stage1", "stage2"]
    distances = rng.uniform(0.1, 1, (n_classes, n_classes))
    distances = (distances + distances.T) / 2 * (1 - np.eye(n_classes))
    if n_classes > 2:
        ticks = [label.get_text() for label in tree_figure(class_tree(distances), names).axes[0].get_yticklabels()]
        assert sorted(ticks) == sorted(names)


def test_an_image_and_its_maps_stand_side_by_side():
    figure = maps_figure(made_up(label=0))
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["the image", "pixels", "stem"]


def test_mean_activity_is_that_of_each_class():
    data, network = make_data(), make_network()
    pixels, labels = pixels_of(data.validation, data), torch.from_numpy(data.validation.labels)
    found = mean_activity(network, pixels, labels, N_CLASSES)
    with torch.no_grad():
        convolved = network.stem[0](pixels)
    expected = [convolved[labels == c].mean().item() for c in range(N_CLASSES)]
    assert found["stem.0"] == pytest.approx(expected, abs=1e-5)
    assert len(activity_figure(activity_by_block(found), data.train.class_names).axes) == 2


def test_the_integral_has_one_point_more_than_steps_from_the_reference_to_the_image():
    network, seen = cells(), []
    image, reference = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))

    conductances(network, image, reference, steps=4)

    assert len(seen[0]) == 5
    assert torch.allclose(seen[0][0], reference) and torch.allclose(seen[0][-1], image)
    assert torch.allclose(seen[0][1], 0.75 * reference + 0.25 * image, atol=1e-5)


def test_activity_is_in_standard_deviations_whatever_the_scale_of_a_layer():
    found = activity_by_block({"a.b.c": [0, 10, 20, 30]})

    assert found["a.b"] == pytest.approx((np.arange(4) - 1.5) / np.std(np.arange(4)))


def test_edges_without_a_gradient_are_left_out():
    network = cells()
    cell = next(module for module in network.modules() if isinstance(module, Cell))
    cell.operations[0].register_forward_hook(lambda module, inputs, output: output.detach())
    first = next(name for name, module in network.named_modules() if module is cell)
    image, reference = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    found = conductances(network, image, reference, steps=2)

    assert (first, cell.edges[0]) not in found
    assert (first, cell.edges[1]) in found
