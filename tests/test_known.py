"""Who a model was trained on."""

from pathlib import Path

from veil.data.known import digest_of, known_people, read_people, write_people
from veil.storage.packages import packaged_model


def test_people_are_found_again_and_not_named(tmp_path: Path) -> None:
    write_people(["Ada", "Grace", "Ada"], tmp_path)
    (file,) = tmp_path.iterdir()
    (tmp_path / "more").mkdir()
    assert "Ada" not in file.read_text()
    assert read_people(tmp_path) == {digest_of("Ada"), digest_of("Grace")}
    write_people(["Alan"], tmp_path / "more", read_people(tmp_path))
    assert read_people(tmp_path / "more") == {digest_of(person) for person in ("Ada", "Alan", "Grace")}
    assert known_people(["Alan", "Grace"], read_people(tmp_path)) == ["Grace"]
    assert read_people(tmp_path / "nowhere") == frozenset()


def test_the_packaged_model_was_trained_on_no_att_person_and_says_whom() -> None:
    people = read_people(packaged_model("package:face_diffusion"))
    assert len(people) == 5326 + 8126  # of LFW and of CelebA
    assert not known_people([f"s{number}" for number in range(1, 41)], people)
    assert known_people(["celeba_8533", "8533"], people) == ["celeba_8533"]  # nobody's own folder


def test_the_packaged_model_holds_no_path_of_who_made_it() -> None:
    configs = list(Path(packaged_model("package:face_diffusion")).rglob("*.json"))
    assert len(configs) == 4
    assert not [config for config in configs if "_name_or_path" in config.read_text()]
