"""A user's own images: folders of pictures, and `.npz` files."""

import numpy as np
import pytest
from PIL import Image

from gm_jax.cli import main as cli
from gm_jax.data import prepared
from gm_jax.data.loading import load
from gm_jax.data.own import folder_source, hold_out
from gm_jax.errors import UserError

GREY, RED = (90, 90, 90), (200, 0, 0)


def picture(path, colour, size=(6, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour).convert(mode)
    image.save(path)
    return path


def test_every_fifth_of_a_class_is_held_out():
    images = np.arange(12, dtype=np.uint8)[:, None, None, None]
    labels = np.array([0] * 6 + [1] * 6)
    (x, y), (test_x, test_y) = hold_out(images, labels)
    assert test_x.ravel().tolist() == [4, 10]  # the fifth of 0..5 and the fifth of 6..11
    assert test_y.tolist() == [0, 1]
    assert x.ravel().tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 11]
    assert y.tolist() == [0] * 5 + [1] * 5


def test_a_folder_of_pictures_of_any_size_and_kind(tmp_path):
    """Imbalanced classes; one colour picture makes the set a colour one."""
    for number in range(5):
        picture(tmp_path / "cats" / f"{number}.png", GREY, (9, 5 + number), "L")
    for number in range(10):
        picture(tmp_path / "dogs" / f"{number}.jpg", RED)
    (tmp_path / "dogs" / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden").mkdir()
    data = load(str(tmp_path), image_size=8)
    assert data.class_names == ("cats", "dogs")
    assert data.image_shape == (8, 8, 3)
    assert data.train.counts.tolist() == [4, 8]
    assert data.test_labels.tolist() == [0, 1, 1]
    assert np.all(np.asarray(data.train.images[0, :4]) == 90)
    assert data.name == str(tmp_path)


def test_grey_pictures_make_a_one_channel_set_and_test_folders_are_the_test(tmp_path):
    for name, level in (("a", 10), ("b", 20)):
        picture(tmp_path / "train" / name / "0.png", (level,) * 3)
        picture(tmp_path / "test" / name / "0.png", (level + 1,) * 3)
    data = load(str(tmp_path), image_size=4)
    assert data.image_shape == (4, 4, 1)
    assert data.train.images[:, 0, 0, 0, 0].tolist() == [10, 20]
    assert data.test_images[:, 0, 0, 0].tolist() == [11, 21]


def test_a_wide_picture_is_cut_to_its_middle(tmp_path):
    """Black, white, black thirds: the middle square is white."""
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.fromarray(wide).save(tmp_path / name / f"{number}.png")
    data = load(str(tmp_path), image_size=8)
    assert np.all(np.asarray(data.test_images) == 255)


def test_sixteen_bits_are_scaled_not_cut_off_and_files_of_macos_are_passed_over(tmp_path):
    """Level 128 * 257 of 65535 is 128 of 255."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            deep = Image.fromarray(np.full((4, 4), 128 * 257, np.uint16))
            deep.save(tmp_path / name / f"{number}.png")
        (tmp_path / name / "._0.png").write_bytes(b"Mac OS X")
    data = load(str(tmp_path), image_size=4)
    assert data.train.counts.tolist() == [4, 4]
    assert np.all(data.test_images == 128)


def test_a_constant_channel_is_centred_not_divided_by_zero(tmp_path):
    images = np.zeros((20, 2, 2, 3), np.uint8)
    images[::2, ..., 0] = 255
    data = load(npz(tmp_path, images=images, labels=np.repeat([0, 1], 10)))
    assert np.asarray(data.train.std).tolist() == [0.5, 1, 1]


def npz(tmp_path, **arrays):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    return str(path)


def test_an_npz_of_grey_images_without_a_test_split(tmp_path):
    images = np.arange(20 * 9, dtype=np.uint8).reshape(20, 3, 3)
    data = load(npz(tmp_path, images=images, labels=np.repeat([0, 1], 10)))
    assert data.image_shape == (3, 3, 1)
    assert data.train.counts.tolist() == [8, 8]
    assert data.class_names == ("0", "1")
    assert np.array_equal(data.test_images[..., 0], images[[4, 9, 14, 19]])


def test_an_npz_with_a_test_split_and_names(tmp_path):
    images, labels = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 1, 1])
    path = npz(
        tmp_path,
        images=images,
        labels=labels,
        test_images=images[:1] + 7,
        test_labels=labels[:1],
        class_names=np.array(["cat", "dog"]),
    )
    data = load(path)
    assert data.class_names == ("cat", "dog")
    assert data.train.counts.tolist() == [1, 3]
    assert np.all(data.test_images == 7)


GOOD = {"images": np.zeros((10, 2, 2), np.uint8), "labels": np.repeat([0, 1], 5)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": None}, "holds no 'images': there are labels"),
        ({"images": np.zeros((10, 2, 2))}, "float64 (10, 2, 2), must be uint8"),
        ({"images": np.zeros((10, 2, 2, 2), np.uint8)}, "1 or 3"),
        ({"labels": np.zeros(10)}, "labels are float64 (10,), must be 10 whole numbers"),
        ({"labels": np.zeros(9, int)}, "(9,)"),
        ({"labels": np.zeros(10, int) - 1}, "0 or more"),
        ({"labels": np.zeros(10, int)}, "two classes at least"),
        ({"labels": np.repeat([0, 2], 5)}, "each needs one"),
        ({"class_names": np.array(["one", "one"])}, "comes twice"),
        ({"class_names": np.array(["one"])}, "1 class_names, labels up to 1"),
        ({"images": np.array([{}] * 10)}, "cannot be read as an .npz of plain arrays"),
        ({"test_images": GOOD["images"]}, "holds no 'test_labels'"),
        ({"test_labels": np.array([0, 1])}, "test_labels without test_images"),
        (
            {"test_images": np.zeros((2, 3, 3), np.uint8), "test_labels": np.array([0, 1])},
            "do not fit",
        ),
    ],
)
def test_a_wrong_npz_is_refused_with_what_is_wrong(tmp_path, change, says):
    arrays = {name: array for name, array in (GOOD | change).items() if array is not None}
    with pytest.raises(UserError) as caught:
        load(npz(tmp_path, **arrays))
    assert says in str(caught.value)


def test_a_wrong_folder_is_refused_with_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="holds no folders of pictures"):
        load(str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="a holds no pictures"):
        load(str(tmp_path))
    picture(tmp_path / "a" / "1.png", RED)
    with pytest.raises(UserError, match="two classes at least"):
        load(str(tmp_path))
    picture(tmp_path / "b" / "1.png", RED)
    with pytest.raises(UserError, match="no images for the test"):
        load(str(tmp_path))
    for number in range(2, 6):
        picture(tmp_path / "a" / f"{number}.png", RED)
    (tmp_path / "a" / "1.png").write_bytes(b"\x89PNG but cut off")
    with pytest.raises(UserError, match=r"1\.png cannot be read as a picture"):
        load(str(tmp_path))
    with pytest.raises(UserError, match="--image-size 8 is for folders"):
        load("digits", 8)


@pytest.mark.slow
def test_own_data_from_the_command_line(tmp_path, capsys, monkeypatch):
    """Condensed under a relative path, evaluated from elsewhere; refused once it has changed."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("left", "right$_{"):  # no mathematics in the picture's labels
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (12, 12), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    sizes = "--image-size 8 --ipc 1 --iterations 1 --width 8 --depth 2 --batch-real 4".split()
    run = str(tmp_path / "run")
    dataset = ["--dataset", "set"]
    assert cli.main(["condense", *dataset, *sizes, "--out", run]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["evaluate", run, "--count", "1", "--epochs", "1"]) == 0
    assert "convnet   condensed" in capsys.readouterr().out
    prepared.write(tmp_path / "written", folder_source(tmp_path / "set", 8))  # the same pixels
    whole = ["--dataset", str(tmp_path / "written"), "--count", "1", "--epochs", "1"]
    assert cli.main(["evaluate", run, *whole]) == 0
    (tmp_path / "set" / "left").rename(tmp_path / "set" / "zuletzt")
    assert cli.main(["evaluate", run, "--count", "1", "--epochs", "1"]) == 2
    assert "hold classes ('left', 'right$_{')" in capsys.readouterr().err
