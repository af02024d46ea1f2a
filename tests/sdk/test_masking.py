"""What is kept of a command line, and what is not."""

from __future__ import annotations

import pytest

from rewind_logger.sdk.provenance.masking import MAX_CHARACTERS, masked


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api-key=hunter2"],
        ["--api_key", "hunter2"],
        ["--apiKey", "hunter2"],
        ["-password", "hunter2"],
        ["--db.password=hunter2"],
        ["logger.hf_token=hunter2"],
        ["+trainer.logger.secret='hunter2 and more'"],
        ["WANDB_API_KEY=hunter2"],
        ["--aws-secret-access-key:hunter2"],
        ['{"token": "hunter2", "lr": 0.1}'],
        ["-c", "import x; x.login(token='hunter2', lr=0.1)"],
        ["-H", "Authorization: Bearer hunter2hunter2"],
        ["--store=s3://me:hunter2@host/bucket"],
        ["https://host/data?X-Amz-Signature=hunter2"],
        ["ghp_hunter2hunter2hunter2hunter2"],
        ["--run", "hf_hunter2hunter2hunter2hunter2"],
        ["--auth", "-hunter2"],
    ],
)
def test_what_looks_like_a_secret_is_masked(arguments: list[str]) -> None:
    shown = masked(["train.py", *arguments, "--lr=0.1"])
    assert "hunter2" not in " ".join(shown)
    assert "…" in " ".join(shown)
    assert shown[0] == "train.py" and shown[-1] == "--lr=0.1"
    assert len(shown) == len(arguments) + 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lr", "0.1", "--max_tokens", "2048"],
        ["--key=val/loss", "--monitor-key", "val/loss"],
        ["--author", "me", "--tokenizer=gpt2", "--bypass", "x"],
        ["data=/mnt/data set/a=b.parquet"],
        ["--store=s3://bucket/prefix"],
        ["-m", "package.train", "optimizer.betas=[0.9,0.99]"],
        ["-c", "x = {'lr': 0.1}; print(x['lr'])"],
        ["--flag", "--", "--verbose"],
    ],
)
def test_everything_else_is_kept_as_it_is(arguments: list[str]) -> None:
    assert masked(arguments) == arguments


def test_an_option_without_a_value_hides_no_other_option() -> None:
    assert masked(["--token", "--lr=0.1"]) == ["--token", "--lr=0.1"]


def test_a_long_argument_is_cut() -> None:
    [shown] = masked(["x" * 100_000])
    assert len(shown) == MAX_CHARACTERS + 1 and shown.endswith("…")


def test_a_secret_of_the_environment_is_hidden_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "correct-horse")
    monkeypatch.setenv("DEBUG_TOKEN", "true")
    monkeypatch.setenv("MODEL", "resnet-50")
    assert masked(["--x=correct-horse", "correct-horse!", "true", "resnet-50"]) == ["--x=…", "…!", "true", "resnet-50"]
