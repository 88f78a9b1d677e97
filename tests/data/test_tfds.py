"""TFDS's own builders, on small files in the formats that the sets' authors publish.

Nothing is replaced but the number and the pixels of the images, and the checksums with them; where
a download is tested, the host is this machine.
"""

import functools
import gzip
import hashlib
import http.server
import io
import struct
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.utils import lazy_imports_utils
from tensorflow_datasets.image_classification import mnist

from gm_jax.cli import main as cli
from gm_jax.data import files, loading, tfds
from gm_jax.errors import UserError

CLASSES = dict.fromkeys(tfds.NAMES, 10) | {"cifar100": 100}
TRAIN, TEST = 300, 200
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"


# --- files as their authors publish them ----------------------------------------------------------


def made(name, seed):
    """(train, test), each images and labels: noise, so that no two images are alike."""
    rng = np.random.default_rng(seed)
    shape = (28, 28, 1) if name.endswith("mnist") else (32, 32, 3)
    labels = [rng.permutation(np.arange(n) % CLASSES[name]) for n in (TRAIN, TEST)]
    return [(rng.integers(0, 256, (len(y), *shape), np.uint8), y) for y in labels]


def write_idx(path, array):
    """MNIST's format: two zero bytes, type 8 for uint8, the rank, sizes, and the values."""
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def write_mnist(folder, train, test):
    for stem, (images, labels) in (("train", train), ("t10k", test)):
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", images[..., 0])
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", labels)


def write_svhn(folder, train, test):
    """Pixels [h, w, channel, n], and labels [n, 1] in which the digit 0 is 10."""
    for stem, (images, labels) in (("train", train), ("test", test)):
        digits = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)
        arrays = {"X": images.transpose(1, 2, 3, 0), "y": digits}
        scipy.io.savemat(folder / f"{stem}_32x32.mat", arrays, do_compression=True)


def rows(images, *labels):
    """CIFAR's format: an image a row, its labels, then its pixels, a channel at a time."""
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([*labels, pixels]).astype(np.uint8).tobytes()


def write_tar(path, folder, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def names_of(kind, count):
    return "".join(f"{kind}{n}\n" for n in range(count)).encode()


def write_cifar10(folder, train, test):
    parts = [np.array_split(array, 5) for array in train]
    files = {f"data_batch_{n + 1}.bin": rows(x, y) for n, (x, y) in enumerate(zip(*parts))}
    files |= {"test_batch.bin": rows(*test), "batches.meta.txt": names_of("kind", 10)}
    write_tar(folder / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", files)


def write_cifar100(folder, train, test):
    files = {f"{k}.bin": rows(x, y % 20, y) for k, (x, y) in {"train": train, "test": test}.items()}
    files |= {"coarse_label_names.txt": names_of("group", 20)}
    files |= {"fine_label_names.txt": names_of("kind", 100)}
    write_tar(folder / "cifar-100-binary.tar.gz", "cifar-100-binary", files)


WRITE = {
    "mnist": write_mnist,
    "fashion_mnist": write_mnist,
    "svhn_cropped": write_svhn,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, no other, and MNIST's fixed counts made to fit."""
    monkeypatch.setenv("GM_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "FOLDERS", {})
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", TRAIN)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", TEST)
    return tmp_path / "cache"


@pytest.fixture
def give(cache, monkeypatch):
    """A function that puts a set's files where a user without a network puts them."""

    def given(name, seed=0):
        splits, folder = made(name, seed), cache / "downloads" / name
        folder.mkdir(parents=True)
        WRITE[name](folder, *splits)
        known = tensorflow_datasets.builder_cls(name).url_infos
        for url, info in list(known.items()):
            if (folder / info.filename).exists():
                small = checksums.compute_url_info(folder / info.filename)
                monkeypatch.setitem(known, url, small)
        return splits

    return given


def pairs(images, labels):
    """Images with their labels, in an order that is theirs alone."""
    return sorted((int(y), bytes(x)) for x, y in zip(np.asarray(images), np.asarray(labels)))


def train_pairs(train):
    counts = np.asarray(train.counts)
    images = [np.asarray(row)[:count] for row, count in zip(train.images, counts)]
    return pairs(np.concatenate(images), np.repeat(np.arange(len(counts)), counts))


# --- preparing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tfds.NAMES)
def test_the_builder_serves_what_the_files_hold_and_only_arrays_stay(name, give, cache):
    """SVHN's extra is not among the files, so it would be missed if anybody asked for it."""
    train, test = give(name)
    data = loading.load(name)
    assert train_pairs(data.train) == pairs(*train)
    assert pairs(data.test_images, data.test_labels) == pairs(*test)
    assert data.test_labels.dtype == np.int32
    assert {path.name for path in cache.iterdir()} == {f"{name}-1.npz", "downloads"}


@pytest.mark.parametrize("name", tfds.NAMES)
def test_names_statistics_and_protocol(name, give):
    give(name)
    data = tfds.load(name)
    digits, kinds = map(str, range(10)), [f"kind{n}" for n in range(CLASSES[name])]
    if name in ("mnist", "svhn_cropped"):
        assert data.class_names == tuple(digits)
    else:
        assert data.class_names == tuple(FASHION.split(",") if name == "fashion_mnist" else kinds)
    assert data.handwritten_digits == (name == "mnist")
    assert len(data.train.mean) == len(data.train.std) == data.image_shape[-1]
    assert data.name == name


def test_preparing_twice_gives_the_same_order(give, cache):
    give("mnist")
    first = tfds.load("mnist")
    (cache / "mnist-1.npz").unlink()
    second = tfds.load("mnist")
    assert np.array_equal(first.train.images, second.train.images)
    assert np.array_equal(first.test_images, second.test_images)


def test_neither_tensorflow_nor_its_stand_in_stays_and_nothing_is_printed(give, capfd):
    give("cifar10")
    tfds.load("cifar10")
    assert "tensorflow" not in sys.modules
    assert "_module" not in vars(lazy_imports_utils.tensorflow)
    assert capfd.readouterr() == ("", "")


def test_the_second_load_imports_neither_tfds_nor_what_downloads(give):
    """Nor does importing gm_jax."""
    give("mnist")
    first = tfds.load("mnist")
    program = """
import sys
sys.modules |= dict.fromkeys(["tensorflow", "tensorflow_datasets", "array_record"])  # no import
import gm_jax
data = gm_jax.load("mnist")
assert "requests" not in sys.modules
print(int(data.train.images.astype(int).sum()), data.test_labels.tolist())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    total = int(np.asarray(first.train.images).astype(int).sum())
    assert ran.stdout == f"{total} {first.test_labels.tolist()}\n"


# --- the network ----------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A folder that this machine serves, in the place of MNIST's host."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_host(f"http://127.0.0.1:{server.server_port}/", folder, monkeypatch)
        yield folder
        server.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


def use_host(url, folder, monkeypatch):
    """MNIST's files are those in the folder, and are at that URL."""
    splits = made("mnist", 1)
    write_mnist(folder, *splits)
    files = {url + path.name: checksums.compute_url_info(path) for path in folder.iterdir()}
    known = tensorflow_datasets.builder_cls("mnist").url_infos
    for official in list(known):
        monkeypatch.delitem(known, official)
    for address, info in files.items():
        monkeypatch.setitem(known, address, info)
    monkeypatch.setattr(mnist.MNIST, "URL", url)


def test_files_are_downloaded_once_and_the_user_is_told(cache, host, caplog):
    caplog.set_level("INFO", "gm_jax")
    data = loading.load("mnist")
    train, test = made("mnist", 1)
    assert train_pairs(data.train) == pairs(*train)
    assert pairs(data.test_images, data.test_labels) == pairs(*test)
    sizes = {path.name: path.stat().st_size / 2**20 for path in host.iterdir()}
    *downloads, last = caplog.messages
    for line, (name, size) in zip(sorted(downloads), sorted(sizes.items()), strict=True):
        says = f"mnist: downloading {name}, {size:.1f} of {sum(sizes.values()):.1f} MiB, from 127."
        assert line.startswith(says)
    assert last == f"mnist is kept in {cache / 'mnist-1.npz'}"
    caplog.clear()
    for path in host.iterdir():
        path.unlink()
    loading.load("mnist")
    assert caplog.messages == []


def test_another_file_than_tfds_knows_is_refused_and_nothing_stays(cache, host):
    write_idx(host / "t10k-labels-idx1-ubyte.gz", np.zeros(TEST))
    said = (
        r"^t10k-labels-idx1-ubyte\.gz from 127\.0\.0\.1:\d+ is not the file of mnist: it holds 200"
    )
    with pytest.raises(UserError, match=said):
        tfds.load("mnist")
    assert list(cache.iterdir()) == []


def test_a_file_that_the_host_lacks_is_named(cache, host):
    (host / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"^mnist cannot be downloaded: 404 .*t10k-images"):
        tfds.load("mnist")
    assert list(cache.iterdir()) == []


def test_without_a_network_the_command_line_says_what_to_do(cache, tmp_path, monkeypatch, capfd):
    """Nobody listens at port 1."""
    (tmp_path / "files").mkdir()
    use_host("http://127.0.0.1:1/", tmp_path / "files", monkeypatch)
    assert cli.main(["condense", "--dataset", "mnist", "--out", str(tmp_path / "run")]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "gm-jax: mnist cannot be downloaded: 127.0.0.1:1 does not answer; "
        "put t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, train-images-idx3-ubyte.gz, "
        f"train-labels-idx1-ubyte.gz of http://127.0.0.1:1 into {cache / 'downloads' / 'mnist'}, "
        "or use digits or mnist5k, which need no network\n"
    )
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "run").exists()


def test_the_sizes_said_are_those_of_the_sets():
    """What the authors publish: of SVHN the two splits only, 182,040,794 and 64,275,384 bytes."""
    sizes = {}
    for name in tfds.NAMES:
        files = tfds._without_extra(tensorflow_datasets.builder_cls(name).url_infos)
        sizes[name] = sum(int(info.size) for info in files.values())
    assert sizes == {
        "mnist": 11_594_722,
        "fashion_mnist": 30_878_645,
        "svhn_cropped": 246_316_178,
        "cifar10": 170_052_171,
        "cifar100": 168_513_733,
    }


# --- files that are compressed otherwise ----------------------------------------------------------


@pytest.fixture
def give_known(give, cache, monkeypatch):
    """As `give`, with the digests of the small files' contents known in the place of the real."""

    def given(name):
        splits, folder = give(name), cache / "downloads" / name
        digests = {key: f"sha1:{hashlib.sha1(data).hexdigest()}" for key, data in held(folder)}
        monkeypatch.setitem(files.CONTENTS, name, digests)
        return splits, folder

    return given


def held(folder):
    """What is in the files as published, by the keys that `CONTENTS` has."""
    for path in folder.iterdir():
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as tar:
                yield from [(each.name, tar.extractfile(each).read()) for each in tar]
        else:
            yield path.stem, gzip.decompress(path.read_bytes())


def compress_anew(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1, mtime=5))


def uncompress(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def uncompress_in_place(path):
    """What a browser keeps that uncompresses what it downloads."""
    path.write_bytes(gzip.decompress(path.read_bytes()))


def dotted(path):
    path.rename(path.with_name(path.name.replace("-idx", ".idx")))


def uncompressed_and_dotted(path):
    uncompress(path)
    dotted(path.with_suffix(""))


def linked(path):
    away = path.parents[2] / "elsewhere"
    away.mkdir(exist_ok=True)
    path.symlink_to(path.rename(away / path.name))


def unpacked(path):
    with tarfile.open(path) as tar:
        tar.extractall(path.parent, filter="data")
    path.unlink()


def packed_otherwise(path):
    """In another order, at the top, with the dotted copies of macOS, and with Windows' lines."""
    with tarfile.open(path) as tar:
        parts = {each.name.rpartition("/")[2]: tar.extractfile(each).read() for each in tar}
    parts = {
        part: data.replace(b"\n", b"\r\n") + b"\r\n" if part.endswith(".txt") else data
        for part, data in reversed(parts.items())
    }
    write_tar(path, ".", parts | {f"._{part}": b"" for part in parts} | {"readme.html": b"x"})


CHANGES = {
    "mnist": (compress_anew, uncompress, uncompress_in_place, dotted, linked),
    "fashion_mnist": (compress_anew, uncompressed_and_dotted),
    "cifar10": (compress_anew, uncompress, uncompress_in_place, unpacked, packed_otherwise),
    "cifar100": (compress_anew, unpacked, packed_otherwise),
}
CASES = [(name, change) for name, changes in CHANGES.items() for change in changes]


@pytest.mark.parametrize(("name", "change"), CASES)
def test_the_contents_count_not_the_compression(name, change, give_known, caplog):
    caplog.set_level("INFO", "gm_jax")
    (train, test), folder = give_known(name)
    for path in list(folder.iterdir()):
        change(path)
    data = tfds.load(name)
    assert train_pairs(data.train) == pairs(*train)
    assert pairs(data.test_images, data.test_labels) == pairs(*test)
    assert data.class_names[-1] in ("9", "kind9", "kind99", "Ankle boot")
    assert caplog.messages[0] == f"{name}: reading the files in {folder}"


def refused(name, folder):
    """What is said, and that nothing stays."""
    with pytest.raises(UserError) as error:
        tfds.load(name)
    assert [path.name for path in folder.parents[1].iterdir()] == ["downloads"]
    return str(error.value)


def test_other_images_are_refused_however_they_are_compressed(give_known):
    """Fashion-MNIST's in the place of MNIST's, say; or the test's in the place of the training."""
    _, folder = give_known("mnist")
    path = folder / "train-images-idx3-ubyte.gz"
    other = (folder / "t10k-images-idx3-ubyte.gz").read_bytes()
    path.write_bytes(other)
    start = f"{path.name} in {folder} is not the file of mnist: it holds "
    said = refused("mnist", folder)
    assert said.startswith(f"{start}{TEST} x 28 x 28 values, SHA-1 ")
    wanted = files.CONTENTS["mnist"]["train-images-idx3-ubyte"].partition(":")[2]
    assert said.endswith(f".., must be {wanted[:8]}..")
    path.write_bytes(gzip.decompress(other)[:-1])
    assert refused("mnist", folder).startswith(f"{start}{TEST * 784 + 15} bytes, ")
    for short in (b"", b"\0\0\x08", b"\0\0\x08\x03\0"):
        path.write_bytes(short)
        assert refused("mnist", folder).startswith(f"{start}{len(short)} bytes, ")


def test_a_damaged_file_is_named(give_known):
    _, folder = give_known("fashion_mnist")
    path = folder / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1  # in the checksum that gzip ends with, or nearly
    for damaged in (whole[:-9], whole[:20], bytes(flipped), whole + b"more"):
        path.write_bytes(damaged)
        said = refused("fashion_mnist", folder)
        assert said.startswith(f"{path.name} in {folder} is damaged: ")
        assert not said.endswith(": ")
        assert "\n" not in said


def test_a_damaged_archive_is_named(give_known):
    _, folder = give_known("cifar10")
    path = folder / "cifar-10-binary.tar.gz"
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"something else" * 99, b"\x1f\x8bno"):
        path.write_bytes(damaged)
        said = refused("cifar10", folder)
        assert said.startswith(f"{path.name} in {folder} is damaged: ")
        assert "\n" not in said


def test_another_part_of_an_archive_is_named(give_known):
    _, folder = give_known("cifar10")
    unpacked(folder / "cifar-10-binary.tar.gz")
    where = f"cifar-10-batches-bin in {folder} is not the file of cifar10: "
    part = folder / "cifar-10-batches-bin" / "data_batch_3.bin"
    pixels = bytearray(part.read_bytes())
    pixels[-1] ^= 1
    part.write_bytes(pixels)
    assert refused("cifar10", folder).startswith(f"{where}its data_batch_3.bin is another, SHA-1 ")
    part.unlink()
    assert refused("cifar10", folder) == f"{where}it lacks data_batch_3.bin"


def test_other_class_names_are_refused(give_known):
    _, folder = give_known("cifar100")
    unpacked(folder / "cifar-100-binary.tar.gz")
    names = folder / "cifar-100-binary" / "fine_label_names.txt"
    names.write_text(names.read_text().replace("kind7\n", "kindred\n"))
    assert "its fine_label_names.txt is another, SHA-1 " in refused("cifar100", folder)


def test_svhn_must_be_as_published(give):
    give("svhn_cropped")
    folder = tfds.cache_folder() / "downloads" / "svhn_cropped"
    write_svhn(folder, *made("svhn_cropped", 1))
    said = refused("svhn_cropped", folder)
    assert "_32x32.mat in " in said
    assert " is not the file of svhn_cropped: its SHA-256 is " in said


def test_a_distributions_files_are_found_but_the_users_come_first(
    give_known, cache, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", "gm_jax")
    (train, _), folder = give_known("fashion_mnist")
    system = tmp_path / "share"
    folder.rename(system)
    monkeypatch.setattr(files, "FOLDERS", {"fashion_mnist": system})
    assert train_pairs(tfds.load("fashion_mnist").train) == pairs(*train)
    assert caplog.messages[0] == f"fashion_mnist: reading the files in {system}"
    (cache / "fashion_mnist-1.npz").unlink()
    folder.mkdir()
    (folder / "t10k-labels-idx1-ubyte").touch()
    caplog.clear()
    tfds.load("fashion_mnist")
    lacks = (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
    )
    assert caplog.messages[0].startswith(f"fashion_mnist: {folder} is not used, it lacks ")
    assert all(each in caplog.messages[0] for each in lacks)
    assert caplog.messages[1] == f"fashion_mnist: reading the files in {system}"
    (cache / "fashion_mnist-1.npz").unlink()
    for path in system.iterdir():
        (folder / path.stem).write_bytes(b"nothing")
    with pytest.raises(UserError, match=f"in {folder} is not the file of fashion_mnist"):
        tfds.load("fashion_mnist")


def test_the_digests_are_of_what_the_builders_read():
    for name, digests in files.CONTENTS.items():
        builder = tensorflow_datasets.builder_cls(name)
        if name.startswith("cifar"):
            info = builder._cifar_info.fget(type("", (), {"name": name})())
            parts = (*info.train_files, *info.test_files, *info.label_files)
            wanted = {f"{info.prefix}{part}" for part in parts}
        else:
            wanted = {url.rpartition("/")[2].removesuffix(".gz") for url in builder.url_infos}
        assert digests.keys() == wanted
        for digest in digests.values():
            algorithm, _, value = digest.partition(":")
            assert len(bytes.fromhex(value)) == hashlib.new(algorithm).digest_size
    assert set(tfds.NAMES) - set(files.CONTENTS) == {"svhn_cropped"}


# --- files that are not as they should be ---------------------------------------------------------


def test_files_that_do_not_fit_leave_nothing_behind(give, cache, monkeypatch):
    """One image fewer than there should be."""
    give("mnist")
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", TEST + 1)
    with pytest.raises(UserError, match=r"^mnist cannot be prepared: .*$"):
        tfds.load("mnist")
    assert [path.name for path in cache.iterdir()] == ["downloads"]


def test_a_damaged_cache_file_is_named(give, cache):
    give("mnist")
    tfds.load("mnist")
    path = cache / "mnist-1.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:-100], b"something else", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"mnist-1\.npz is damaged: delete it, and mnist is"):
            tfds.load("mnist")
    np.savez(path, images=np.zeros(3))
    with pytest.raises(UserError, match="damaged"):
        tfds.load("mnist")
    path.unlink()
    assert tfds.load("mnist").train.images.shape[0] == 10


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GM_JAX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"file/cache cannot be written: .*GM_JAX_CACHE"):
        tfds.load("mnist")


def test_the_cache_folder_is_the_users_choice_then_the_desktops_then_the_homes(monkeypatch):
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("GM_JAX_CACHE", "~/g")
    found = []
    for variable in ("GM_JAX_CACHE", "XDG_CACHE_HOME", None):
        found.append(str(tfds.cache_folder()))
        if variable:
            monkeypatch.delenv(variable)
    assert found == ["/home/a/g", "/x/gm_jax", "/home/a/.cache/gm_jax"]


def test_without_a_home_folder_one_line_says_how_to_name_another(monkeypatch):
    """As in a container whose user has no entry in /etc/passwd."""

    def nobody(number):
        raise KeyError(number)

    for variable in ("HOME", "XDG_CACHE_HOME", "GM_JAX_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(UserError, match="name one for caches in GM_JAX_CACHE"):
        tfds.cache_folder()
