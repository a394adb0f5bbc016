"""JPEGs with some pixels replaced: blocks that stay, segments that go."""

import io
import struct
import tempfile
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import pytest
from numpy import ndarray
from photo_files import PHOTO, PROFILE, RED, SECRET, assert_clean, exif, in_mode, opened, painted, written
from PIL import Image

from veil.faces.decode import Unreadable, decode
from veil.faces.rewrite import rewrite


def spatial(
    folder: Path, sampling: list[list[int]], space: str = "YCbCr", pixels: ndarray = PHOTO, *flags: str
) -> bytes:
    """A JPEG that Pillow cannot write."""
    image = jpeglib.from_spatial(np.ascontiguousarray(pixels))
    image.samp_factor, image.jpeg_color_space = np.array(sampling), jpeglib.Colorspace[f"JCS_{space}"]
    tables = np.add.outer(np.array([3, 9, 17]), np.arange(64).reshape(8, 8))  # one for each channel, no two alike
    image.write_spatial(str(folder / "spatial.jpg"), qt=tables, quant_tbl_no=np.arange(3), flags=list(flags))
    return (folder / "spatial.jpg").read_bytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    body = exif(orientation).tobytes()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


SAMPLINGS = {
    "4:4:4": [[1, 1]] * 3,
    "4:4:0": [[2, 1], [1, 1], [1, 1]],
    "4:1:1": [[1, 4], [1, 1], [1, 1]],
    "crossed": [[2, 2], [2, 1], [1, 2]],
}


def assert_blocks_kept(content: bytes, orientation: int, mode: str = "RGB") -> bytes:
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    shown = decode(new.content)
    # the box is whole blocks, but colour is smoothed over their edges when it is shown
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool)
    far = np.abs(shown.astype(int) - before)[~near]
    assert new.identical
    assert far.max() <= (0 if orientation == 1 else 6)  # the inverse transform rounds a turned block another way
    assert (far > 2).mean() < 0.01
    assert np.abs(shown[mask].astype(int) - in_mode(after, mode)[mask]).mean() < 8
    assert_clean(new.content)
    return new.content


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("mode", "subsampling"), [("L", 0), ("L", 2), ("RGB", 0), ("RGB", 1), ("RGB", 2)])
def test_untouched_blocks_of_a_jpeg_are_kept(mode: str, subsampling: int, orientation: int) -> None:
    content = written("JPEG", mode, orientation, quality=80, subsampling=subsampling)
    found = opened(assert_blocks_kept(content, orientation, mode))
    assert (found.format, found.mode, found.info["icc_profile"]) == ("JPEG", mode, PROFILE)


@pytest.mark.parametrize("orientation", [1, 2, 6, 7])
@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("space", ["YCbCr", "RGB"])
def test_a_jpeg_keeps_tables_sampling_and_colour_space(space: str, name: str, orientation: int, tmp_path: Path) -> None:
    content = with_orientation(spatial(tmp_path, SAMPLINGS[name], space), orientation)
    new = assert_blocks_kept(content, orientation)
    before, after = opened(content), opened(new)
    assert after.info.get("adobe_transform") == before.info.get("adobe_transform")
    turned = orientation > 4
    for mine, theirs in zip(after.layer, before.layer, strict=True):
        assert mine[1:3] == (theirs[1:3][::-1] if turned else theirs[1:3])
        one, other = (
            np.reshape(image.quantization[layer[3]], (8, 8)) for image, layer in ((after, mine), (before, theirs))
        )
        assert (one == (other.T if turned else other)).all()


@pytest.mark.parametrize("flag", ["ARITH_CODE", "PROGRESSIVE_MODE"])
def test_a_jpeg_of_another_coding_becomes_a_sequential_one(flag: str, tmp_path: Path) -> None:
    content = spatial(tmp_path, [[2, 2], [1, 1], [1, 1]], "YCbCr", PHOTO, flag)
    assert b"\xff\xc0" in assert_blocks_kept(content, 1)


def test_a_jpeg_in_rgb_without_an_adobe_segment_is_known_by_its_channels_names() -> None:
    content = written("JPEG", quality=90, keep_rgb=True)
    place = content.index(b"\xff\xee")
    assert_blocks_kept(content[:place] + content[place + 16 :], 1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_in_cmyk_is_encoded_anew(orientation: int) -> None:
    content = written("JPEG", "CMYK", orientation, quality=80)
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    shown = decode(new.content).astype(int)
    assert not new.identical
    assert opened(new.content).mode == "CMYK"
    assert opened(new.content).info["icc_profile"] == PROFILE
    assert np.abs(shown - before)[~mask].mean() < 2
    assert np.abs(shown[mask] - RED).mean() < 2
    assert_clean(new.content)


@pytest.mark.parametrize("size", [(159, 185), (8, 8), (1, 1), (17, 3)])
def test_a_jpeg_of_odd_size(size: tuple[int, int]) -> None:
    content = written("JPEG", pixels=PHOTO[: size[0], : size[1]])
    before = decode(content)
    mask = np.zeros(size, bool)
    mask[size[0] // 2, size[1] // 2] = True
    new = rewrite(content, before, mask)
    assert new.identical
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((37, 37))).astype(bool)
    assert (decode(new.content)[far] == before[far]).all()


@pytest.mark.parametrize(
    ("orientation", "identical"), [(1, True), (2, False), (4, False), (5, True), (6, False), (8, False)]
)
def test_a_turn_that_mirrors_parts_of_blocks_encodes_anew(orientation: int, identical: bool) -> None:
    content = written("JPEG", orientation=orientation, pixels=PHOTO[:155, :181], quality=90)
    _, after, mask = painted(content)
    new = rewrite(content, after, mask)
    assert new.identical == identical
    assert np.abs(decode(new.content).astype(int) - after)[~mask].mean() < 3


def test_a_turn_minds_only_the_side_that_it_mirrors() -> None:
    content = written("JPEG", orientation=6, pixels=PHOTO[:, :181])  # mirrored is what was down: 160 px
    assert rewrite(content, *painted(content)[1:]).identical


def test_nothing_of_a_jpeg_but_picture_and_profile_survives() -> None:
    profile = PROFILE + bytes(range(256)) * 600  # more than two segments hold
    thumbnail = io.BytesIO()
    Image.fromarray(PHOTO[::2, ::2]).save(thumbnail, "JPEG")
    first, second = Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1].copy())
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second], icc_profile=profile, comment=SECRET)
    content = buffer.getvalue()
    segments = b"".join(
        b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body
        for code, body in [
            (0xE1, b"Exif\0\0" + thumbnail.getvalue()),
            (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET),
            (0xED, b"Photoshop 3.0\0" + SECRET),
            *((0xFE, SECRET) for _ in range(60)),  # more than jpeglib holds
            *((0xE9, SECRET) for _ in range(60)),
        ]
    )
    end = content.rindex(b"\xff\xd9")
    scan = content.index(b"\xff\xda")
    tail = b"\0\0\0\x18ftypmp42" + SECRET  # as of a motion photo
    content = content[:scan] + segments + content[scan : end + 2] + tail
    assert opened(content).format == "MPO"
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((37, 37))).astype(bool)
    assert new.identical
    assert (decode(new.content)[far] == before[far]).all()
    assert opened(new.content).info["icc_profile"] == profile
    assert opened(new.content).format == "JPEG"
    assert_clean(new.content)
    assert new.content.count(b"\xff\xd8") == new.content.count(b"\xff\xd9") == 1
    assert b"MPF" not in new.content
    assert new.content.endswith(b"\xff\xd9")
    assert new.content.count(b"JFIF") == 1


def test_no_copy_of_a_photo_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written("JPEG")
    _, after, mask = painted(content)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert rewrite(content, after, mask).identical
    assert not list(tmp_path.iterdir())

    def fail(**_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(jpeglib.dct_jpeg.CJpegLib, "read_jpeg_dct", fail)
    with pytest.raises(Unreadable, match="a JPEG whose blocks cannot be taken over: damaged"):
        rewrite(content, after, mask)
    assert not list(tmp_path.iterdir())
