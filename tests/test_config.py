import os
import re
from pathlib import Path
from typing import Literal

import pytest

from attncodec.budget import Budget, budget_of_option
from attncodec.config import Config
from attncodec.config_file import dump_yaml, key_types, load_config
from attncodec.configs import find_config, run_folder_of, shipped_configs
from attncodec.errors import ConfigError
from attncodec.networks.hyperprior import check_model


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_is_valid_and_says_what_it_is_for(name: str) -> None:
    check_model(load_config(name).model)
    assert find_config(name).read_text().startswith("# ") and len(shipped_configs()[name]) > 20


def test_a_config_is_found_by_its_name_or_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        load_config("attention/dot").model.attention.kind
        == "dot"
        == load_config("attention/dot.yaml").model.attention.kind
    )
    (tmp_path / "default").write_text("train: {seed: 5}\n")
    assert load_config("default").train.seed == 5  # a file of that name comes first
    assert load_config(Path("default")).train.seed == 5


@pytest.mark.parametrize("name", ["defualt", "../configs/default", "", "attention", "/default"])
def test_a_config_that_is_nowhere_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no configuration") as caught:
        load_config(name)
    assert "default, " in caught.value.hint and "attention/dot" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5000", 5000, "steps"),
        ("90s", 90, "seconds"),
        ("20m", 1200, "seconds"),
        ("1h30m", 5400, "seconds"),
        ("1.5h", 5400, "seconds"),
    ],
)
def test_budgets_are_steps_or_time(text: str, amount: float, unit: Literal["steps", "seconds"]) -> None:
    assert Budget.parse(text) == Budget(amount=amount, unit=unit)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5", "5x", "m5", "5 m m", "ten minutes", "1h30", "nan", "1e3s", "1:30"]
)
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a budget is"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["2000000000", "9" * 5000, "3651d", f"{'9' * 400}s"])
def test_a_budget_of_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most 1000000000 steps or 3650d"):
        Budget.parse(text)


def test_an_option_with_an_empty_budget_is_refused() -> None:
    assert budget_of_option("--extend", None) is None
    with pytest.raises(ConfigError, match="--extend ''"):
        budget_of_option("--extend", "")


def test_budgets_of_different_units_do_not_add_up() -> None:
    assert Budget.parse("10m") + Budget.parse("20m") == Budget.parse("30m")
    assert Budget.parse("10m").at_least(620) == Budget.parse("620s") and Budget.parse("9").at_least(8).amount == 9
    with pytest.raises(ConfigError, match="cannot be extended"):
        Budget.parse("100") + Budget.parse("2h")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {batch: 4, lr: 0.5}\n")
    config = load_config(path, ["train.batch=16", "train.budget=5000", "data.train=some folder/", "train.lr=1e-4"])
    assert (config.train.batch, config.train.budget, config.train.lr) == (16, "5000", 1e-4)
    assert config.data.train == "some folder/"


def test_a_dumped_config_reads_back_equal(tmp_path: Path) -> None:
    config = load_config("attention/mixed", ["train.seed=7"])
    assert load_config(write(tmp_path, dump_yaml(config))) == config


def test_attention_is_chosen_for_all_places_or_for_each(tmp_path: Path) -> None:
    overrides = ["model.attention.kind=dot", "model.attention.strides=[8]", "model.attention.synthesis=[none, kernel]"]
    config = load_config(write(tmp_path, ""), overrides)
    attention = config.model.attention
    assert attention.kinds("analysis") == ("dot", "none") and attention.kinds("synthesis") == ("none", "kernel")
    assert load_config(write(tmp_path, dump_yaml(config))) == config


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("train.lrr=1", "unknown key train.lrr", "train.lr?"),
        ("model.attention.knd=none", "unknown key model.attention.knd", "model.attention.kind?"),
        ("trian.batch=1", "unknown key trian.batch", "train.batch?"),
        ("model.atention.kind=dot", "unknown key model.atention.kind", "model.attention.kind?"),
        ("lr=1", "unknown key lr", "train.lr?"),
        ("train.phases=[{share: 1, frozn: []}]", r"unknown key train.phases.0.frozn", "train.phases.0.frozen?"),
        ("train.phases=[3]", "train.phases.0 is a section, not a value", ""),
        ("train=3", "train is a section, not a value", "train.budget=20m"),
        ("=3", "'=3' has an empty name", "train.budget=20m"),
        (".train=3", "'.train=3' has an empty name", "train.budget=20m"),
        ("train.=3", "'train.=3' has an empty name", "train.budget=20m"),
        ("train..batch=3", "'train..batch=3' has an empty name", "train.budget=20m"),
        (f"{'a.' * 5000}b=3", "more than 20 sections", ""),
        ("train.lr=fast", "train.lr:", "'fast'"),
        ("train.batch={", "the value of train.batch cannot be read as YAML", ""),
        ("train.batch=true", "train.batch:", "True"),
        ("train.batch=yes", "train.batch:", "'yes'"),
        ("model.widths=[64, true, 192]", "model.widths.1:", "True"),
        ("train.compile=on", "train.compile:", "'on'"),
        ("train.optimiser_options.beta1={a: 1}", "train.optimiser_options.beta1: an option is", ""),
        ("train.optimiser_options.beta1=", "train.optimiser_options.beta1: an option is", "None"),
        ("train.batch=0", "train.batch:", "0"),
        ("train.budget=soon", "train.budget: a budget is", "'soon'"),
        ("model.attention.analysis=[dot]", "model.attention.analysis", ""),
        ("data.crop=100", "data.crop:", "100"),
        ("nonsense", "not key=value", "train.budget=20m"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, override: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, ""), [override])
    assert hint in caught.value.hint


def test_an_unknown_key_is_said_to_be_where_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, "trian: {lr: 1}")
    for text, overrides, message in [
        ("trian: {lr: 1}", ["train.batch=2"], f"unknown key trian.lr in {path}"),
        ("trian: {lr: 1}", ["trian.batch=2"], f"unknown key trian.lr in {path}"),
        ("train: {lr: 1}", ["train.budgets=5"], "unknown key train.budgets on the command line"),
        ("train: {lr: 1}", ["train.phases=[{share: 1, frozn: []}]"], "train.phases.0.frozn on the command line"),
        ("", ["trian={lr: 1}"], "unknown key trian.lr on the command line"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(message) + "$"):
            load_config(write(tmp_path, text), overrides)


NUMBERS = [key for key, kind in key_types(Config).items() if kind in (int, float) and "[]" not in key]


@pytest.mark.parametrize("value", ["-1", ".nan", ".inf", "-.inf", "1e400", "1e300", f"{10**30}", "9" * 5000])
@pytest.mark.parametrize("key", [*NUMBERS, "model.rd_lambdas", "train.phases"])
def test_every_number_has_bounds(tmp_path: Path, key: str, value: str) -> None:
    lists = {"model.rd_lambdas": f"[{value}]", "train.phases": f"[{{share: 1, lr: [{value}, 0]}}]"}
    with pytest.raises(ConfigError, match=key) as caught:
        load_config(write(tmp_path, ""), [f"{key}={lists.get(key, value)}"])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"- a\n- b\n", "has no sections"),
        (b"0\n", "has no sections"),
        (b"''\n", "has no sections"),
        (b"train: [", "line 1"),
        (b"train: 5\n", "train is a section, not a value"),
        (b"\tx: 1\n", "line 1"),
        (b"train: {batch: 3, batch: 4}\n", "line 1: the key batch is given twice"),
        (b"train:\n  budget: 1:30\n", "train.budget: a budget is"),
        (b"train.batch: 3\n", "the dots of train.batch"),
        (b"train: {1: 2}\n", r"unknown key train\.1"),
        (b"data: {train: 2024}\n", "data.train"),
        (b"\xff\xfet\0", "is not UTF-8 text"),
        (b"#" * 300_000, "more than 256 KiB"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "c.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.yaml")


def test_numbers_are_decimal_and_words_are_words(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "train: {seed: 010, lr: 1e-3}\ndata: {train: no}\n"))
    assert (config.train.seed, config.train.lr, config.data.train) == (10, 1e-3, "no")


def test_a_tilde_is_the_home_folder_and_variables_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    path = write(tmp_path, "data: {train: ~/photos}\n")
    config = load_config(path, ["train.init=~/x.safetensors"])
    assert (config.data.train, config.train.init) == ("/home/ada/photos", "/home/ada/x.safetensors")
    assert load_config(path, ["data.train=$HOME/photos"]).data.train == "$HOME/photos"


def test_a_pipe_is_read_like_a_file_and_names_no_run_folder() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"train: {seed: 5}\n")
    os.close(writing)
    path = f"/dev/fd/{reading}"
    with pytest.raises(ConfigError, match="is a pipe"):
        run_folder_of(path)
    assert load_config(path).train.seed == 5
    os.close(reading)


def test_the_nearest_configuration_is_suggested() -> None:
    for name, near in [("defualt", "default"), ("Tiny", "tiny"), ("attention/dott.yaml", "attention/dot")]:
        with pytest.raises(ConfigError) as caught:
            load_config(name)
        assert f"did you mean {near}?" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        load_config("experiments/17.yaml")
    assert "did you mean" not in caught.value.hint


def test_a_folder_is_no_configuration_but_may_hold_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is a folder") as caught:
        load_config(tmp_path)
    assert "default, " in caught.value.hint
    write(tmp_path, "").rename(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="it is a folder") as caught:
        load_config(tmp_path)
    assert caught.value.hint == f"give {tmp_path / 'config.yaml'}"


def test_ms_ssim_needs_crops_of_192_pixels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="crops must have at least 192"):
        load_config(write(tmp_path, "train: {ms_ssim_share: 0.5}\ndata: {crop: 128}\n"))
    load_config(write(tmp_path, "train: {ms_ssim_share: 0.5}\n"))


def test_a_key_that_was_renamed_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: {levels: [0.01]}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    assert "model.rd_lambdas" in caught.value.hint


def test_an_empty_section_takes_overrides(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("train:\ndata:\n")
    assert load_config(tmp_path / "c.yaml", ["train.budget=5"]).train.budget == "5"
    with pytest.raises(ConfigError, match="is a value, not a section"):
        load_config(tmp_path / "c.yaml", ["train.budget=5", "train.budget.more=1"])


@pytest.mark.parametrize(
    "override", ["train.seed=2024-13-01", "model.rd_lambdas=[0.01,0.005]", "model.rd_lambdas=[0.01,0.01]"]
)
def test_a_date_that_does_not_exist_and_lambdas_that_do_not_rise_are_refused(tmp_path: Path, override: str) -> None:
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        load_config(tmp_path / "a.yaml", [override])
